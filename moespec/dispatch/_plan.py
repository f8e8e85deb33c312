"""The plan: a routing transposed, from "which experts has a token" to "which rows has an expert"."""

from typing import NamedTuple

import numpy as np

from moespec import corpus, indexing
from moespec.indexing import require_ids
from moespec.op import Arg, Case, Op, Req


class Plan(NamedTuple):
    """Rows sorted by expert, arrivals in token order."""

    token: np.ndarray       # N     row -> token, -1 in the dead tail
    row: np.ndarray         # T K   assignment -> row, -1 = none
    offsets: np.ndarray     # E+1   rows of expert e are offsets[e] .. offsets[e+1]-1; offsets[E] rows are live


def plan(indices, *, experts, rows=None):
    r"""Sort the assignments of a routing by expert, stably: (expert, token, choice).

    .. math:: \mathrm{row}_{tj} = \mathrm{offsets}_{i_{tj}} + \#\{(s, m) < (t, j) : i_{sm} = i_{tj}\}, \qquad
              \mathrm{token}_{\mathrm{row}_{tj}} = t

    Always dropless: capacity is an op on indices (`drop`).  All positions are exact int64.

    Parameters
    ----------
    indices : (T, K) integer
        -1 has no row; a repeated id has two.
    experts : int
        E.
    rows : int, optional
        A static bound on the live rows (E C after a drop); N = min(T K, rows).  By default N = T K.

    Returns
    -------
    Plan(token, row, offsets)
        int64; live rows first, then a dead tail with token -1.
    None

    Raises
    ------
    ValueError
        An id outside -1 .. E-1; more live assignments than `rows`.

    Examples
    --------
    Two tokens, two experts; the second token has one of them only:

    >>> import numpy as np
    >>> from moespec import dispatch
    >>> plan, _ = dispatch.plan(np.array([[1, 0], [1, -1]]), experts=2)
    >>> plan.token, plan.offsets
    (array([ 0,  0,  1, -1]), array([0, 1, 3]))
    >>> plan.row
    array([[ 1,  0],
           [ 2, -1]])
    """
    dims = OP.admit(indices, experts=experts, rows=rows)
    ids = indices.ravel()
    live = int((ids >= 0).sum())
    n = ids.size if rows is None else min(ids.size, rows)
    order = np.argsort(np.where(ids >= 0, ids, experts), kind="stable")[:live]
    token, row = np.full(n, -1, np.int64), np.full(ids.size, -1, np.int64)
    token[:live], row[order] = order // max(dims.K, 1), np.arange(live)
    offsets = np.concatenate([[0], np.cumsum(indexing.counts(indices, experts))]).astype(np.int64)
    return Plan(token, row.reshape(indices.shape), offsets), None


def _check(dims, indices, *, experts, rows=None):
    require_ids("plan", indices, experts)
    live = int((indices >= 0).sum())
    if rows is not None and live > rows:
        raise ValueError(f"plan: rows={rows} cannot hold the {live} live assignments (indices has shape {indices.shape})")


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for case in corpus.routings(rng):
        case = case._replace(tags=case.tags | {"exact"})
        yield case.with_(experts=8)
        yield case.with_("spare_experts", experts=11)
        live = int((case.inputs["indices"] >= 0).sum())
        yield case.with_("tight", experts=8, rows=live)
        yield case.with_("bounded", experts=8, rows=live + 3)
    yield Case("many", {"indices": rng.integers(-1, 300, (257, 3))}, {"experts": 300}, frozenset({"exact"}))


INVALID = (
    (Case("id_too_large", {"indices": np.full((2, 1), 8)}, {"experts": 8}), ValueError, r"plan: indices holds 8, outside -1 \.\. 7"),
    (Case("id_below", {"indices": np.full((2, 1), -2)}, {"experts": 8}), ValueError, r"plan: indices holds -2, outside -1 \.\. 7"),
    (Case("rows_too_few", {"indices": np.zeros((4, 2), int)}, {"experts": 8, "rows": 7}), ValueError,
     r"plan: rows=7 cannot hold the 8 live assignments \(indices has shape \(4, 2\)\)"),
    (Case("real_ids", {"indices": np.zeros((4, 2))}, {"experts": 8}), TypeError, r"plan: indices has dtype float64, wanted an integer"),
)


def _walk(run):
    """Rows filled by walking the tokens in order, expert by expert."""
    ids, row, token, n = run.inputs["indices"], run.outputs.row, run.outputs.token, 0
    for e in range(run.dims.experts):
        if run.outputs.offsets[e] != n:
            return False
        for t, j in np.argwhere(ids == e):
            if row[t, j] != n or token[n] != t:
                return False
            n += 1
    return run.outputs.offsets[-1] == n and (token[n:] == -1).all()


REQUIREMENTS = (
    Req("PLAN-1", "Rows are in (expert, token, choice) order; offsets are their exclusive sums; the dead tail is -1.", _walk),
    Req("PLAN-2", "An assignment has a row exactly if its id is not -1.", lambda r: (r.outputs.row >= 0) == (r.inputs["indices"] >= 0)),
    Req("PLAN-3", "The number of rows depends on shapes and attributes only.",
        lambda r: len(r.outputs.token) == min(r.inputs["indices"].size, r.attrs.get("rows") or r.inputs["indices"].size)
        if r.attrs.get("rows") != 0 else len(r.outputs.token) == 0),
)

OP = Op(
    name="dispatch.plan",
    inputs=(Arg("indices", "T K", "index", of="E"),),
    outputs=(Arg("token", "N", "index", of="T"), Arg("row", "T K", "index", of="N"), Arg("offsets", "E+1", "count")),
    forward=plan,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, K, **_: (T * K, 0),
    refs=("Gale et al. 2023 (MegaBlocks), section 5.1",),
)
