"""No Token Left Behind: what overflows asks the next-best expert (Fedus et al. 2021, appendix B)."""

import numpy as np

from moespec import corpus, indexing
from moespec.dispatch._drop import require_capacity
from moespec.op import Arg, Case, Op, Req


def reroute(indices, scores, group=None, *, capacity):
    r"""Send every assignment that does not fit to the token's next-best expert, until it fits or all are full.

    Rounds: in the first, every assignment asks its own expert; in each further one, what was refused asks the expert with the
    highest score that its token has not asked yet (normative order, ties to the lower expert).  Within a round assignments are
    served in the order ``choice`` of `drop`; a place that was given is kept.  An assignment whose token has asked every expert
    becomes -1.  The paper describes the idea in words; the rounds are this specification's.

    Parameters
    ----------
    indices : (T, K) integer
        -1 asks nobody.
    scores : (T, E) real
        Preferences; constant under differentiation.
    group : (T,) integer, optional
        Capacity counts per group and expert.
    capacity : int or None
        C; None is no limit.

    Returns
    -------
    kept : (T, K) int64
    None

    Raises
    ------
    ValueError
        A negative capacity or group, an id outside -1 .. E-1.

    References
    ----------
    Fedus et al. 2021, appendix B.
    """
    dims = OP.admit(indices, scores, group, capacity=capacity)
    if capacity is None:
        return indices.astype(np.int64), None
    row = np.zeros(dims.T, np.int64) if group is None else group
    room = np.full((int(row.max(initial=0)) + 1, dims.E), capacity)
    kept, asking = np.full(indices.shape, -1, np.int64), indices.astype(np.int64)
    best, asked = indexing.argsort(scores), [set(ids.tolist()) for ids in indices]
    while (asking >= 0).any():
        for k, t in np.argwhere(asking.T >= 0):                       # choice-major
            if room[row[t], asking[t, k]] > 0:
                room[row[t], asking[t, k]] -= 1
                kept[t, k], asking[t, k] = asking[t, k], -1
        for t, k in np.argwhere(asking >= 0):                         # refused: the next one on the token's list
            asking[t, k] = next((e for e in best[t] if e not in asked[t]), -1)
            asked[t].add(int(asking[t, k]))
    return kept, None


def _check(dims, indices, scores, group, *, capacity):
    require_capacity("reroute", capacity, group, indices.shape)


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for case in corpus.routings(rng, experts=4, tokens=8):
        scores = corpus.dyadic(rng, len(case.inputs["indices"]), 4, bits=1)
        for c in (0, 1, 3, None):
            yield case.add(scores=scores)._replace(tags=case.tags | {"exact"}).with_(f"capacity_{c}", capacity=c)
    scores = np.array([[3.0, 2.0, 1.0], [3.0, 1.0, 2.0], [3.0, np.nan, 2.0]])
    yield Case("nan_score_is_asked_first", {"indices": np.zeros((3, 1), int), "scores": scores}, {"capacity": 1}, frozenset({"exact"}))
    yield Case("per_row", {"indices": rng.integers(0, 3, (8, 2)), "scores": corpus.normal(rng, 8, 3), "group": np.repeat([0, 1], 4)},
               {"capacity": 2}, frozenset({"exact"}))


INVALID = (
    (Case("capacity_negative", {"indices": np.zeros((4, 2), int), "scores": np.zeros((4, 3))}, {"capacity": -2}), ValueError,
     r"reroute: capacity=-2 must be at least 0"),
    (Case("id_too_large", {"indices": np.full((4, 2), 3), "scores": np.zeros((4, 3))}, {"capacity": 1}), ValueError,
     r"reroute: indices holds 3, outside -1 \.\. 2"),
)


def _totals(run):
    """How many are kept per group, and how many could be."""
    ids, kept, c = run.inputs["indices"], run.outputs.kept, run.attrs["capacity"]
    group = run.inputs["group"] if run.inputs["group"] is not None else np.zeros(len(ids), int)
    for g in range(int(group.max(initial=0)) + 1):
        yield kept[group == g], ids[group == g], c


def _within(run):
    return [np.bincount(kept[kept >= 0], minlength=1).max(initial=0) <= c for kept, _, c in _totals(run) if c is not None]


def _left_behind_only_when_full(run):
    """A token that lost an assignment asked every expert: those it does not hold are full."""
    for kept, ids, c in _totals(run):
        load = np.bincount(kept[kept >= 0], minlength=run.dims.E)
        for lost in np.flatnonzero(((kept < 0) & (ids >= 0)).any(1)):
            if c is not None and any(load[e] < c for e in set(range(run.dims.E)) - set(ids[lost].tolist()) - set(kept[lost].tolist())):
                return False
    return True


REQUIREMENTS = (
    Req("REROUTE-1", "No expert takes more than C, per group.", _within),
    Req("REROUTE-2", "An assignment is lost only when every expert that its token has not got is full.", _left_behind_only_when_full),
    Req("REROUTE-3", "A token's experts stay distinct if they were.",
        lambda r: [len(set(k[k >= 0])) == (k >= 0).sum() for k, i in zip(r.outputs.kept, r.inputs["indices"], strict=True)
                   if len(set(i[i >= 0])) == (i >= 0).sum()]),
    Req("REROUTE-4", "-1 stays -1.", lambda r: (r.outputs.kept == -1) | (r.inputs["indices"] >= 0)),
)

OP = Op(
    name="dispatch.reroute",
    inputs=(Arg("indices", "T K", "index", of="E"), Arg("scores", "T E", grad=False), Arg("group", "T", "count", optional=True)),
    outputs=(Arg("kept", "T K", "index", of="E"),),
    forward=reroute,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, K, E, **_: (T * E + T * K, 0),
    refs=("Fedus et al. 2021, appendix B",),
)
