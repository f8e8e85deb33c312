"""Unmix: every token as a weighted average of the slots of its group (Soft MoE's combine)."""

from typing import NamedTuple

import numpy as np

from moespec import corpus, indexing
from moespec.dispatch._mix import by_group, group_errors, group_of, layouts, linear, require_group_below
from moespec.numerics import widen
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    slots: np.ndarray       # S G D
    combine: np.ndarray     # T S
    owners: list            # the tokens of every group
    dtypes: tuple


def unmix(rows, combine, group=None, *, groups=1):
    r"""Average the slots of a token's group.

    .. math:: y_t = \sum_s C_{ts} \, \mathrm{rows}_{s G + g(t)}

    Parameters
    ----------
    rows : (N, D) real
        What the experts made of the rows of `mix`: row s G + g is slot s of group g; N = S G.
    combine : (T, S) real
        See `gates.soft`.
    group : (T,) integer, optional
        0 .. groups-1.
    groups : int
        G; 1 without `group`.

    Returns
    -------
    y : (T, D) real
        In the dtype of `rows`.
    Saved
        rows, combine.

    Raises
    ------
    ValueError
        N is not S G; a group outside 0 .. G-1; several groups without `group`.

    References
    ----------
    Puigcerver et al. 2023, section 2.1.
    """
    dims = OP.admit(rows, combine, group, groups=groups)
    c, slots, owners = widen(combine), by_group(widen(rows), groups), indexing.members(group, dims.T, groups)
    y = indexing.rejoin([c[own] @ slots[:, g] for g, own in enumerate(owners)], owners)
    return y.astype(rows.dtype), Saved(slots, c, owners, (rows.dtype, combine.dtype))


def unmix_backward(saved, dy):
    r"""To the slots the weighted tokens of their group, to the weights the inner products.

    .. math:: \overline{\mathrm{rows}}_{s G + g} = \sum_{t \in g} C_{ts} \bar y_t, \qquad
              \bar C_{ts} = \langle \mathrm{rows}_{s G + g(t)}, \bar y_t \rangle
    """
    d, (s, groups, width) = widen(dy), saved.slots.shape
    drows = np.stack([saved.combine[own].T @ d[own] for own in saved.owners], axis=1).reshape(s * groups, width)
    dcombine = [d[own] @ saved.slots[:, g].T for g, own in enumerate(saved.owners)]
    return drows.astype(saved.dtypes[0]), indexing.rejoin(dcombine, saved.owners).astype(saved.dtypes[1])


def _check(dims, rows, combine, group, *, groups=1):
    require_group_below("unmix", group, groups, combine)
    if dims.S * groups != dims.N:
        raise ValueError(f"unmix: {dims.S} slots of {groups} groups are not {dims.N} rows (rows has shape {tuple(rows.shape)})")


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    def inputs(make):
        return lambda tokens, slots, groups: {"rows": make(rng, slots * groups, 3), "combine": make(rng, tokens, slots)}

    yield from layouts(rng, inputs(corpus.normal), inputs(corpus.integers))
    yield Case("no_tokens", {"rows": corpus.normal(rng, 4, 3), "combine": np.zeros((0, 4))}, {}, frozenset({"empty"}))
    rows, weights = corpus.integers(rng, 32, 2), corpus.integers(rng, 3, 32)
    rows[0], rows[-1], weights[:, 0], weights[:, -1] = 64, -64, 64, 64
    yield Case("ballast", {"rows": rows, "combine": weights}, {}, frozenset({"exact"}))
    rows = corpus.normal(rng, 4, 2)
    rows[1] = np.nan                                                   # slot 0 of group 1
    spoilt = {"rows": rows, "combine": corpus.normal(rng, 4, 2), "group": np.array([0, 1, 0, 1])}
    yield Case("nan_stays_in_its_group", spoilt, {"groups": 2}, frozenset({"nan"}))


INVALID = (
    *group_errors("unmix", rows=np.zeros((6, 3)), combine=np.zeros((4, 6))),
    (Case("rows_too_few", {"rows": np.zeros((5, 3)), "combine": np.zeros((4, 6))}), ValueError,
     r"^unmix: 6 slots of 1 groups are not 5 rows \(rows has shape \(5, 3\)\)"),
)


def _token_by_token(run):
    rows, c, n, group = np.asarray(run.inputs["rows"], float), np.asarray(run.inputs["combine"], float), run.attrs.get("groups", 1), group_of(run)
    got = np.asarray(run.outputs.y, float)
    for t in range(run.dims.T):
        terms = [c[t, s] * rows[s * n + group[t]] for s in range(run.dims.S)]
        want, size = sum(terms), sum(map(np.abs, terms))
        if not np.all(np.isnan(want) | (np.abs(got[t] - want) <= 4 * (run.dims.S + 2) * run.unit * size + 1e-6 * (run.dtype == "float16"))):
            return False
    return True


REQUIREMENTS = (
    Req("UNMIX-1", "A token is the weighted sum of the slots of its own group.", _token_by_token),
    Req("UNMIX-2", "The slots of a group without tokens get gradient 0.",
        lambda r: [(np.asarray(r.grads["rows"])[g::r.attrs.get("groups", 1)] == 0).all()
                   for g in range(r.attrs.get("groups", 1)) if g not in group_of(r)]),
    Req("UNMIX-3", "Weights are linear: <dy, y> = <dcombine, combine>.", lambda r: linear(r, "y", "combine")),
)

OP = Op(
    name="dispatch.unmix",
    inputs=(Arg("rows", "N D"), Arg("combine", "T S"), Arg("group", "T", "count", optional=True)),
    outputs=(Arg("y", "T D"),),
    forward=unmix,
    backward=unmix_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, S, D, **_: (2 * T * S * D, 4 * T * S * D),
    refs=("Puigcerver et al. 2023, section 2.1",),
)
