"""Top-p: as many experts as it takes to reach a share of the probability (Huang et al. 2024)."""

from typing import NamedTuple

import numpy as np

from moespec import corpus, indexing, numerics
from moespec.gates._routing import Routing
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    indices: np.ndarray     # T K
    experts: int
    dtype: np.dtype


def top_p(scores, indices=None, *, p=None, at_most=None):
    r"""Select the shortest list of best experts whose scores sum to `p`.

    .. math:: i_t = \text{the ids in the normative order}, \qquad
              m_t = \min \Big\{ m : \sum_{j < m} s_{t i_{tj}} \ge p \Big\}, \qquad w_{tj} = s_{t i_{tj}} \; (j < m_t)

    The expert that crosses p is included, so there is always one.  Where no list reaches p (rounding, a NaN, scores that do not
    sum to 1) all experts are selected; `at_most` cuts every list off.  Weights are the scores, not renormalised.

    Parameters
    ----------
    scores : (T, E) real
        Probabilities; a NaN comes first, and its sums never reach p.
    indices : (T, K) integer, optional
        A given selection (replay); -1 = none.
    p : float
        0 < p <= 1.  May be left out with `indices`.
    at_most : int, optional
        K; the number of experts by default.

    Returns
    -------
    Routing(indices, weights)
        Descending, -1 and 0 behind the last; int64; the dtype of `scores`.
    Saved

    Raises
    ------
    ValueError
        p or at_most out of range; neither `p` nor `indices`; indices of another width than at_most.

    References
    ----------
    Huang et al. 2024, section 3 (the regulariser is `losses.router_entropy`).
    """
    dims = OP.admit(scores, indices, p=p, at_most=at_most)
    wide = numerics.widen(scores)
    order = indexing.select(wide, at_most or dims.E, indices)
    if p is not None:
        sums = np.cumsum(indexing.take(wide, order), axis=1)
        before = np.concatenate([np.zeros((dims.T, 1), sums.dtype), sums], axis=1)[:, :-1]
        order = np.where(indexing.decide(~(before >= p), None if indices is None else indices >= 0), order, -1)
    ids = order.astype(np.int64)
    return Routing(ids, indexing.take(wide, ids).astype(scores.dtype)), Saved(ids, dims.E, scores.dtype)


def top_p_backward(saved, dweights):
    r"""The selection is constant.

    .. math:: \bar s_{ti} = \sum_{j : i_{tj} = i} \bar w_{tj}
    """
    return indexing.untake(numerics.widen(dweights), saved.indices, saved.experts).astype(saved.dtype)


def _check(dims, scores, indices, *, p=None, at_most=None):
    shape = f"(scores has shape {tuple(scores.shape)})"
    if p is None and indices is None:
        raise ValueError(f"top_p: give p or indices, got neither {shape}")
    if p is not None and not 0 < p <= 1:
        raise ValueError(f"top_p: p={p} must be above 0 and at most 1 {shape}")
    if at_most is not None and not 1 <= at_most <= dims.E:
        raise ValueError(f"top_p: at_most={at_most} must be in 1 .. {dims.E} {shape}")
    if at_most is not None and indices is not None and indices.shape[1] != at_most:
        raise ValueError(f"top_p: at_most={at_most} disagrees with the given indices (indices has shape {indices.shape})")


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for case in corpus.logits(rng):
        with np.errstate(all="ignore"):
            scores = numerics.softmax(case.inputs["logits"])
        case = case._replace(inputs={"scores": scores}, tags=case.tags - {"large"})
        yield case.with_("p04", p=0.4)
        yield case.with_("p09", p=0.9, at_most=min(3, scores.shape[1]))
        yield case.with_("p1", p=1.0)
    eighths = {"scores": np.array([[0.125, 0.5, 0.25, 0.125], [0.25] * 4, [1.0, 0.0, 0.0, 0.0]])}
    for name, p in (("reached_exactly", 0.75), ("just_above", 0.78125), ("first_is_enough", 0.25), ("all", 1.0)):
        yield Case(name, eighths, {"p": p}, frozenset({"exact"}))
    yield Case("never_reached", {"scores": np.full((2, 3), 0.125)}, {"p": 0.5}, frozenset({"exact"}))
    given = np.array([[1, 0, -1], [3, -1, -1], [-1, -1, -1], [2, 2, 0]])
    yield Case("given", {"scores": corpus.dyadic(rng, 4, 4), "indices": given}, {}, frozenset({"exact"}))


INVALID = (
    (Case("neither", {"scores": np.zeros((4, 3))}), ValueError, r"^top_p: give p or indices, got neither \(scores has shape \(4, 3\)\)"),
    (Case("p_zero", {"scores": np.zeros((4, 3))}, {"p": 0.0}), ValueError, r"^top_p: p=0.0 must be above 0 and at most 1"),
    (Case("p_above_one", {"scores": np.zeros((4, 3))}, {"p": 1.5}), ValueError, r"^top_p: p=1.5 must be above 0 and at most 1"),
    (Case("at_most_above", {"scores": np.zeros((4, 3))}, {"p": 0.5, "at_most": 4}), ValueError, r"^top_p: at_most=4 must be in 1 \.\. 3"),
    (Case("other_width", {"scores": np.zeros((4, 3)), "indices": np.zeros((4, 2), int)}, {"at_most": 3}), ValueError,
     r"^top_p: at_most=3 disagrees with the given indices \(indices has shape \(4, 2\)\)"),
)


def _prefix(run):
    """Without its last expert the list stays below p; with it p is reached, or the list is as long as it may be."""
    if run.inputs["indices"] is not None:
        return None
    s, ids, p = np.asarray(run.inputs["scores"], float), run.outputs.indices, run.attrs["p"]
    for t in range(run.dims.T):
        mine = [i for i in ids[t] if i >= 0]
        total, slack = sum(s[t, i] for i in mine), 2.0**-20
        if not mine or sum(s[t, i] for i in mine[:-1]) >= p + slack or (total < p - slack and len(mine) < len(ids[t])):
            return False
    return True


def _best(run):
    """The list is the front of the normative order, -1 behind it."""
    if run.inputs["indices"] is not None:
        return None
    key, ids = indexing.order_key(run.inputs["scores"]), run.outputs.indices
    want = [[i for _, i in sorted((-k, i) for i, k in enumerate(row.tolist()))][:ids.shape[1]] for row in key]
    on = ids >= 0
    return on[:, :1].all() & (on[:, :-1] >= on[:, 1:]).all() & (~on | (ids == np.array(want, int).reshape(ids.shape))).all()


def _lengths(run):
    lengths = {"reached_exactly": [2, 3, 1], "just_above": [3, 4, 1], "first_is_enough": [1, 1, 1], "all": [4, 4, 1], "never_reached": [3, 3]}
    return (run.outputs.indices >= 0).sum(1).tolist() == lengths[run.case.name] if run.case.name in lengths else None


REQUIREMENTS = (
    Req("TOP_P-1", "The list is the front of the normative order, at least one long, -1 behind it.", _best),
    Req("TOP_P-2", "Without its last expert the list sums to less than p; with it to p, unless it is as long as it may be.", _prefix),
    Req("TOP_P-3", "By hand: a sum that equals p is enough.", _lengths),
    Req("TOP_P-4", "A weight is the score, bit for bit; it is 0 where there is no expert.",
        lambda r: (r.outputs.weights == indexing.take(r.inputs["scores"], r.outputs.indices)) | np.isnan(r.outputs.weights)),
    Req("TOP_P-5", "An expert that is not selected gets gradient 0.",
        lambda r: (r.outputs.indices[:, :, None] == np.arange(r.dims.E)).any(1) | (r.grads["scores"] == 0)),
)

OP = Op(
    name="gates.top_p",
    inputs=(Arg("scores", "T E"), Arg("indices", "T K", "index", of="E", optional=True)),
    outputs=(Arg("indices", "T K", "index", of="E"), Arg("weights", "T K")),
    forward=top_p,
    backward=top_p_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, E, K, **_: (T * E + T * K, T * K),
    refs=("Huang et al. 2024, section 3",),
)
