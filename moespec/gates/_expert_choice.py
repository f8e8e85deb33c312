"""Expert choice: every expert takes its best tokens (Zhou et al. 2022)."""

from typing import NamedTuple

import numpy as np

from moespec import corpus, indexing
from moespec.gates._batchwise import best_tokens, require_columns
from moespec.gates._routing import Routing
from moespec.numerics import widen
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    mask: np.ndarray        # T E
    dtype: np.dtype


def expert_choice(scores, group=None, indices=None, *, capacity=None):
    r"""Give every expert the `capacity` tokens of every group that score highest for it.

    .. math:: M_{ti} = [t \in \mathrm{top}_C(s_{\cdot i})], \qquad w_{ti} = s_{ti} M_{ti}

    The weight is the score itself, not renormalised over a token's experts.  A token may get 0 to E experts; every expert gets
    exactly C tokens of a group (all of them, if the group has fewer), so the load is always even.  The order over tokens is the
    normative one, ties to the earlier token.  A choice depends on all tokens of a group, later ones included: in a causal model
    it leaks the future.  The scores are usually `softmax` over the experts; with E = 1 and raw scores this is the router of
    mixture-of-depths.

    Parameters
    ----------
    scores : (T, E) real
    group : (T,) integer, optional
        Tokens compete within their group (a batch row, a sequence); all tokens form one group by default.
    indices : (T, E) integer, optional
        A given choice (replay): column i holds i or -1.
    capacity : int
        C, 0 or more.  May be left out with `indices`.

    Returns
    -------
    Routing(indices, weights)
        A column per expert: i or -1; int64.  Weights in the dtype of `scores`, exact, 0 at -1.
    Saved

    Raises
    ------
    ValueError
        A negative capacity; neither `capacity` nor `indices`; a negative group; a column that holds another id.

    References
    ----------
    Zhou et al. 2022, section 3.2; Raposo et al. 2024 (mixture-of-depths), section 3.
    """
    dims = OP.admit(scores, group, indices, capacity=capacity)
    owners = indexing.members(group, dims.T)
    mask = indexing.rejoin([best_tokens(scores[own], None if capacity is None else min(capacity, len(own)),
                                        None if indices is None else indices[own]) for own in owners], owners)
    ids = np.where(mask, np.arange(dims.E), -1).astype(np.int64)
    return Routing(ids, np.where(mask, scores, 0.0).astype(scores.dtype)), Saved(mask, scores.dtype)


def expert_choice_backward(saved, dweights):
    r"""The choice is constant.

    .. math:: \bar s_{ti} = M_{ti} \bar w_{ti}
    """
    return np.where(saved.mask, widen(dweights), 0.0).astype(saved.dtype)


def _check(dims, scores, group, indices, *, capacity=None):
    if capacity is None and indices is None:
        raise ValueError(f"expert_choice: give capacity or indices, got neither (scores has shape {tuple(scores.shape)})")
    if capacity is not None and capacity < 0:
        raise ValueError(f"expert_choice: capacity={capacity} must be at least 0 (scores has shape {tuple(scores.shape)})")
    indexing.require_groups("expert_choice", group)
    require_columns("expert_choice", indices)


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for case in corpus.logits(rng):                    # no arithmetic: exact, whatever the values
        scores = case.inputs["logits"]
        case = case._replace(inputs={"scores": scores}, tags=case.tags | {"exact"})
        for c in sorted({0, 1, max(1, len(scores) // 2), len(scores) + 3}):
            yield case.with_(f"capacity_{c}", capacity=c)
        yield case.add("groups", group=rng.permutation(np.arange(len(scores)) % 3)).with_(capacity=2)
    scores = corpus.normal(rng, 6, 4)
    given = np.where(rng.random((6, 4)) < 0.5, np.arange(4), -1)
    yield Case("given", {"scores": scores, "indices": given}, {}, _EXACT)
    yield Case("given_in_groups", {"scores": scores, "indices": given, "group": np.array([0, 7, 0, 7, 7, 0])}, {}, _EXACT)
    yield Case("tie_earlier_token", {"scores": np.ones((5, 3))}, {"capacity": 2}, _EXACT)
    yield Case("rows_of_a_batch", {"scores": corpus.dyadic(rng, 12, 4, bits=1), "group": np.repeat(np.arange(3), 4)}, {"capacity": 2}, _EXACT)


_EXACT = frozenset({"exact"})


def _wrong(name, message, inputs=None, **attrs):
    return Case(name, {"scores": np.zeros((4, 3))} | (inputs or {}), attrs), ValueError, f"^expert_choice: {message}"


INVALID = (
    _wrong("neither", r"give capacity or indices, got neither \(scores has shape \(4, 3\)\)"),
    _wrong("capacity_negative", r"capacity=-1 must be at least 0 \(scores has shape \(4, 3\)\)", capacity=-1),
    _wrong("group_short", r"group has shape \(3,\), but T must be 4", {"group": np.zeros(3, int)}, capacity=1),
    _wrong("group_negative", "group holds -1", {"group": np.full(4, -1)}, capacity=1),
    _wrong("other_column", r"indices\[0, 0\]=1 must be 0 or -1", {"indices": np.array([[1, 1, 2]] * 4)}),
)


def _groups(run):
    """The tokens of every group, collected one by one."""
    found: dict[int, list[int]] = {}
    for t in range(run.dims.T):
        found.setdefault(0 if run.inputs["group"] is None else int(run.inputs["group"][t]), []).append(t)
    return found.values()


def _exactly_c(run):
    if run.inputs["indices"] is not None:
        return None
    taken = run.outputs.indices >= 0
    return [taken[g].sum(0) == min(run.attrs["capacity"], len(g)) for g in _groups(run)]


def _none_better(run):
    """Nobody who was left out comes before somebody taken: higher, or equal and earlier."""
    if run.inputs["indices"] is not None:
        return None
    key, taken = indexing.order_key(run.inputs["scores"]), run.outputs.indices >= 0
    for g in _groups(run):
        for e in range(run.dims.E):
            left, chosen = ([(-key[t, e], t) for t in g if taken[t, e] == want] for want in (False, True))
            if left and chosen and min(left) < max(chosen):
                return False
    return True


REQUIREMENTS = (
    Req("EXPERT_CHOICE-1", "Every expert takes exactly C tokens of every group, or all if there are fewer: the load is even.", _exactly_c),
    Req("EXPERT_CHOICE-2", "No token that is left out scores above one that is taken, or equals it and is earlier.", _none_better),
    Req("EXPERT_CHOICE-3", "A weight is the score, bit for bit, where the expert took the token, and 0 elsewhere.",
        lambda r: np.where(r.outputs.indices >= 0, (r.outputs.weights == r.inputs["scores"]) | np.isnan(r.inputs["scores"]),
                           r.outputs.weights == 0)),
    Req("EXPERT_CHOICE-4", "The gradient of a score is that of its weight where the expert took the token, and 0 elsewhere.",
        lambda r: r.grads["scores"] == np.where(r.outputs.indices >= 0, r.cotangents["weights"], 0)),
    Req("EXPERT_CHOICE-5", "Column i holds i or -1.", lambda r: (r.outputs.indices == -1) | (r.outputs.indices == np.arange(r.dims.E))),
)

OP = Op(
    name="gates.expert_choice",
    inputs=(Arg("scores", "T E"), Arg("group", "T", "count", optional=True), Arg("indices", "T E", "index", of="E", optional=True)),
    outputs=(Arg("indices", "T E", "index", of="E"), Arg("weights", "T E")),
    forward=expert_choice,
    backward=expert_choice_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, E, **_: (T * E, T * E),
    refs=("Zhou et al. 2022, section 3.2", "Raposo et al. 2024, section 3"),
)
