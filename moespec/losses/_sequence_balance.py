"""Sequence-wise balance: within every sequence experts should get equal shares (DeepSeek-V3, eqs 17-20)."""

from typing import NamedTuple

import numpy as np

from moespec import corpus, indexing
from moespec.losses._balance import require_normalizer, valid_tokens
from moespec.losses._checks import near
from moespec.losses._cooperation import LOSS
from moespec.numerics import acc, safe_divide, sigmoid, softmax, widen
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    probs: np.ndarray       # T E   normalised scores
    total: np.ndarray | None    # T 1   what they were divided by
    weights: np.ndarray     # T E   dL / dprobs
    dtype: np.dtype


def sequence_balance(scores, indices, group=None, mask=None, *, normalize=True, normalizer="assignments"):
    r"""The balance loss of every sequence, averaged over the sequences.

    .. math:: L = \frac{1}{G} \sum_g E \sum_i f_{gi} P_{gi}, \qquad f_{gi} = \frac{1}{|V_g| K} \#\{(t, j) : t \in V_g, i_{tj} = i\}, \qquad
              P_{gi} = \frac{1}{|V_g|} \sum_{t \in V_g} \frac{s_{ti}}{\sum_j s_{tj}}

    G is the number of sequences that have a valid token.  1 if every sequence is balanced; imbalances of two sequences that would
    cancel in a common count do not.  DeepSeek-V3 counts the top k of the scores themselves, without the selection bias: give
    those as `indices`.  Without `normalize` the scores are taken as probabilities (softmax routers: transformers' Switch loss).

    Parameters
    ----------
    scores : (T, E) real
        Not negative, for all experts; a token whose scores are all 0 has probabilities 0.
    indices : (T, K) integer
        -1 adds to no count, the normaliser stays \|V\| K.
    group : (T,) integer, optional
        The sequence of every token; all tokens are one by default.
    mask : (T,) bool, optional
        True = the token is valid (belongs to V).
    normalize : bool
    normalizer : {"assignments", "tokens"}
        ``tokens`` leaves out the division by K.

    Returns
    -------
    loss : () real
        In the accumulation dtype; 0 if no token is valid.
    Saved

    Raises
    ------
    ValueError
        A negative group; an id outside -1 .. E-1; an unknown normaliser.

    References
    ----------
    DeepSeek-AI 2024 (V3), eqs 17-20 (alpha is the layer's coefficient).
    """
    dims = OP.admit(scores, indices, group, mask, normalize=normalize, normalizer=normalizer)
    s = widen(scores)
    total = s.sum(1, keepdims=True) if normalize else None
    probs = s if total is None else safe_divide(s, total)
    weights = _weights(indices, group, mask, dims, normalizer).astype(acc(scores))
    loss = np.where(weights != 0, probs * weights, 0.0).sum()
    return loss.astype(acc(scores)), Saved(probs, total, weights, scores.dtype)


def sequence_balance_backward(saved, dloss):
    r"""Through the normalised scores; the counts are constant.

    .. math:: \bar p_{ti} = \frac{E f_{g(t) i}}{G |V_{g(t)}|} [t \in V] \, \bar L, \qquad
              \bar s_{ti} = \frac{\bar p_{ti} - \sum_j p_{tj} \bar p_{tj}}{\sum_j s_{tj}}
    """
    d = saved.weights * dloss
    if saved.total is not None:
        inner = np.where(d != 0, saved.probs * d, 0.0).sum(1, keepdims=True)
        d = np.where((saved.weights != 0).any(1, keepdims=True), safe_divide(d - inner, saved.total), 0.0)
    return d.astype(saved.dtype)


def _weights(indices, group, mask, dims, normalizer):
    """float64[T, E]: E f_gi / (G |V_g|) for the valid tokens of every sequence, 0 for the others."""
    valid = np.ones(dims.T, bool) if mask is None else mask
    owners = [own[valid[own]] for own in indexing.members(group, dims.T)]
    owners = [own for own in owners if len(own)]
    weights = np.zeros((dims.T, dims.E))
    for own in owners:
        per_token = max(dims.K, 1) if normalizer == "assignments" else 1
        weights[own] = dims.E * indexing.counts(indices[own], dims.E) / (len(own) ** 2 * per_token * len(owners))
    return weights


def _check(dims, scores, indices, group, mask, *, normalize=True, normalizer="assignments"):
    indexing.require_groups("sequence_balance", group)
    require_normalizer("sequence_balance", normalizer, indices.shape)


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for case in corpus.routings(rng):
        t = len(case.inputs["indices"])
        scores, group = sigmoid(corpus.normal(rng, t, 8)), rng.permutation(np.arange(t) % 3)
        yield case.add(scores=scores)
        yield case.add("sequences", scores=scores, group=group)
        yield case.add("masked", scores=scores, group=group, mask=rng.random(t) < 0.6)
    rows = {"scores": softmax(corpus.normal(rng, 12, 4)), "indices": rng.integers(0, 4, (12, 2)), "group": np.repeat([0, 3, 1], 4)}
    yield Case("probabilities", rows, {"normalize": False})
    yield Case("per_token", rows, {"normalizer": "tokens"})
    uniform = {"scores": np.full((8, 4), 0.5), "indices": np.arange(8)[:, None] % 4, "group": np.repeat([0, 1], 4)}
    yield Case("balanced", uniform, {}, _EXACT)
    yield Case("balanced_two_choices", {**uniform, "indices": np.arange(16).reshape(8, 2) % 4}, {"normalizer": "tokens"}, _EXACT)
    collapse = np.eye(2)[[0, 0, 1, 1]]
    yield Case("imbalances_that_would_cancel", {"scores": collapse, "indices": np.array([[0], [0], [1], [1]]), "group": np.array([0, 0, 1, 1])},
               {}, _EXACT)
    yield Case("a_sequence_of_padding", {**uniform, "mask": np.arange(8) < 4}, {}, _EXACT)
    yield Case("none_valid", {**uniform, "mask": np.zeros(8, bool)}, {}, _EXACT)
    yield Case("all_scores_zero", {**uniform, "scores": np.where(np.arange(8)[:, None] == 2, 0.0, 0.5) * np.ones((1, 4))}, {}, frozenset({"kink"}))
    spoilt = np.full((8, 4), 0.5)
    spoilt[5] = np.nan
    yield Case("nan_where_masked", {**uniform, "scores": spoilt, "mask": np.arange(8) != 5}, {}, frozenset({"nan"}))


_EXACT = frozenset({"exact_forward"})

INVALID = (
    (Case("group_negative", {"scores": np.zeros((2, 4)), "indices": np.zeros((2, 1), int), "group": np.array([0, -1])}), ValueError,
     r"^sequence_balance: group holds -1, wanted at least 0 \(group has shape \(2,\)\)"),
    (Case("id_too_large", {"scores": np.zeros((2, 4)), "indices": np.full((2, 1), 4)}), ValueError,
     r"^sequence_balance: indices holds 4, outside -1 \.\. 3"),
    (Case("normalizer_unknown", {"scores": np.zeros((2, 4)), "indices": np.zeros((2, 1), int)}, {"normalizer": "experts"}), ValueError,
     r"^sequence_balance: normalizer='experts' is not one of assignments, tokens"),
)


def _by_hand(run):
    s, ids, e = np.asarray(run.inputs["scores"], float), run.inputs["indices"], run.dims.E
    sequences: dict[int, list[int]] = {}
    for t in valid_tokens(run):
        sequences.setdefault(0 if run.inputs["group"] is None else int(run.inputs["group"][t]), []).append(t)
    per, losses = run.dims.K if run.attrs.get("normalizer") != "tokens" else 1, []
    for own in sequences.values():
        p = [s[t] / (s[t].sum() or 1.0) if run.attrs.get("normalize", True) else s[t] for t in own]
        f = [sum(int((ids[t] == i).sum()) for t in own) / (len(own) * per) for i in range(e)]
        losses.append(e * sum(f[i] * sum(row[i] for row in p) / len(own) for i in range(e)))
    return near(run, run.outputs.loss, sum(losses) / len(losses) if losses else 0.0)


def _values(run):
    values = {"balanced": 1, "balanced_two_choices": 2, "imbalances_that_would_cancel": 2, "a_sequence_of_padding": 1, "none_valid": 0}
    return run.outputs.loss == values[run.case.name] if run.case.name in values else None


REQUIREMENTS = (
    Req("SEQUENCE_BALANCE-1", "The loss is the mean over sequences of E times share times mean normalised score, over valid tokens.", _by_hand),
    Req("SEQUENCE_BALANCE-2", "1 where every sequence is balanced, K with the normaliser tokens, E where each collapses, onto whatever expert.",
        _values),
    Req("SEQUENCE_BALANCE-3", "A token that is not valid gets gradient 0.",
        lambda r: None if r.inputs["mask"] is None else r.inputs["mask"][:, None] | (r.grads["scores"] == 0)),
    Req("SEQUENCE_BALANCE-4", "Scores times a constant give the same loss.",
        lambda r: None if not r.attrs.get("normalize", True) else
        near(r, r.rerun(scores=np.asarray(r.inputs["scores"], float) / 4).loss, np.asarray(r.outputs.loss, float))),
)

OP = Op(
    name="losses.sequence_balance",
    inputs=(Arg("scores", "T E"), Arg("indices", "T K", "index", of="E"), Arg("group", "T", "count", optional=True),
            Arg("mask", "T", "mask", optional=True)),
    outputs=(LOSS,),
    forward=sequence_balance,
    backward=sequence_balance_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, E, K, **_: (T * K + 4 * T * E, 5 * T * E),
    refs=("DeepSeek-AI 2024 (V3), eqs 17-20",),
)
