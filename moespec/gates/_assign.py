"""Balanced assignment: one expert for every token, as many tokens for every expert (Lewis et al. 2021, BASE layers)."""

from itertools import permutations

import numpy as np

from moespec import corpus, indexing
from moespec.op import Arg, Case, Op, Req


def assign(scores, indices=None):
    r"""Assign T / E tokens to every expert so that the sum of their scores is largest.

    .. math:: \max_a \sum_t s_{t a(t)} \quad \text{subject to} \quad \#\{t : a(t) = i\} = T / E \text{ for every } i

    For training: the choice depends on the whole batch; at inference a token takes its best expert (`topk` with k = 1).  The
    weight is the sigmoid of the chosen score (`selected_sigmoid`).  Scores that are not finite count as the smallest finite one.
    Of several assignments with the same total any is right: the total is the contract, up to rounding, not the ids.  This
    reference gives the one that SciPy's `linear_sum_assignment` finds for the experts' columns repeated T / E times, the same in
    every call.

    Parameters
    ----------
    scores : (T, E) real
    indices : (T, K) integer, optional
        A given assignment, returned as it is (replay); K is 1 and it is balanced.

    Returns
    -------
    indices : (T, 1) int64
    None
        Nothing is saved: an assignment is constant under differentiation.

    Raises
    ------
    ValueError
        E does not divide T; given indices that are not one per token or not balanced.

    References
    ----------
    Lewis et al. 2021, section 3.1.
    """
    OP.admit(scores, indices)
    return indexing.assign(scores, None if indices is None else indices[:, 0]).astype(np.int64)[:, None], None


def _check(dims, scores, indices):
    if dims.E == 0 or dims.T % dims.E:
        raise ValueError(f"assign: the {dims.T} tokens are no multiple of the {dims.E} experts (scores has shape {tuple(scores.shape)})")
    if indices is None:
        return
    if indices.shape[1] != 1:
        raise ValueError(f"assign: indices must hold one expert per token (indices has shape {indices.shape})")
    found = indexing.counts(indices, dims.E)
    if (found != dims.T // dims.E).any():
        e = int(np.argmax(found != dims.T // dims.E))
        raise ValueError(f"assign: expert {e} is given {found[e]} tokens, not {dims.T // dims.E} (indices has shape {indices.shape})")


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for tokens, experts in ((6, 3), (6, 2), (8, 8), (4, 1), (60, 5), (32, 16)):
        yield Case(f"normal_{tokens}_{experts}", {"scores": corpus.normal(rng, tokens, experts)})
        yield Case(f"dyadic_{tokens}_{experts}", {"scores": corpus.dyadic(rng, tokens, experts, bits=1, high=2)})
    yield Case("all_equal", {"scores": np.ones((6, 3))})
    yield Case("all_want_one", {"scores": np.tile([9.0, 1.0, 0.0], (6, 1)) * np.arange(1, 7)[:, None]})
    yield Case("greedy_is_wrong", {"scores": np.array([[4.0, 3.0], [4.0, 0.0]])}, {}, _EXACT)
    yield Case("experts_prefer_nobody", {"scores": -np.abs(corpus.normal(rng, 6, 3))})
    scores = corpus.normal(rng, 6, 3)
    scores[1], scores[3, 0], scores[4, 2] = np.nan, -np.inf, np.inf
    yield Case("nan_and_inf", {"scores": scores}, {}, frozenset({"nan", "inf"}))
    yield Case("all_nan", {"scores": np.full((4, 2), np.nan)}, {}, frozenset({"nan"}))
    yield Case("no_tokens", {"scores": np.zeros((0, 4))}, {}, frozenset({"empty"}))
    yield Case("given", {"scores": corpus.normal(rng, 4, 2), "indices": np.array([[1], [0], [0], [1]])}, {}, _EXACT)


_EXACT = frozenset({"exact"})

INVALID = (
    (Case("not_divisible", {"scores": np.zeros((7, 3))}), ValueError,
     r"^assign: the 7 tokens are no multiple of the 3 experts \(scores has shape \(7, 3\)\)"),
    (Case("two_choices", {"scores": np.zeros((4, 2)), "indices": np.zeros((4, 2), int)}), ValueError,
     r"^assign: indices must hold one expert per token \(indices has shape \(4, 2\)\)"),
    (Case("given_unbalanced", {"scores": np.zeros((4, 2)), "indices": np.array([[0], [0], [0], [1]])}), ValueError,
     r"^assign: expert 0 is given 3 tokens, not 2 \(indices has shape \(4, 1\)\)"),
)


def _total(run, ids):
    return indexing.finite_scores(run.inputs["scores"])[np.arange(len(ids)), ids].sum()


def _brute_force(run):
    """No order of the experts' places gives more, all of them tried; the larger cases are left to the next check."""
    if run.inputs["indices"] is not None or run.dims.T > 6:
        return None
    places = np.repeat(np.arange(run.dims.E), run.dims.T // run.dims.E)
    best = max((_total(run, np.array(a, int)) for a in set(permutations(places.tolist()))), default=0.0)
    return _total(run, run.outputs.indices[:, 0]) >= best - 1e-9


def _no_swap(run):
    """Two tokens that change places never gain."""
    if run.inputs["indices"] is not None:
        return None
    s, a = indexing.finite_scores(run.inputs["scores"]), run.outputs.indices[:, 0]
    own = s[np.arange(len(a)), a]
    return s[:, a] + s[:, a].T <= own[:, None] + own[None, :] + 1e-9


REQUIREMENTS = (
    Req("ASSIGN-1", "Every expert has exactly T / E tokens, every token one expert.",
        lambda r: (r.outputs.indices.shape == (r.dims.T, 1)) & (indexing.counts(r.outputs.indices, r.dims.E) == r.dims.T // r.dims.E)),
    Req("ASSIGN-2", "No balanced assignment has a larger total (all of them tried, up to six tokens).", _brute_force),
    Req("ASSIGN-3", "No two tokens gain by changing places.", _no_swap),
    Req("ASSIGN-4", "A given assignment is returned as it is.",
        lambda r: r.rerun(indices=r.outputs.indices[::-1]).indices == r.outputs.indices[::-1]),
)

OP = Op(
    name="gates.assign",
    inputs=(Arg("scores", "T E", grad=False), Arg("indices", "T K", "index", of="E", optional=True)),
    outputs=(Arg("indices", "T K", "index", of="E"),),
    forward=assign,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, E, **_: (T**2 * E, 0),
    refs=("Lewis et al. 2021, section 3.1",),
)
