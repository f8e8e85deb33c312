"""Softmax over all experts, then top-k, then renormalisation: the order of Switch, V-MoE and most later routers."""

from typing import NamedTuple

import numpy as np

from moespec import corpus, numerics
from moespec.gates._renormalize import SUMS, require_norm, unweigh, weigh
from moespec.gates._routing import Routing
from moespec.gates._softmax import sums_to_one, through_softmax
from moespec.gates._topk import require_k
from moespec.indexing import select, take, untake
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    probs: np.ndarray       # T E, not rounded
    indices: np.ndarray     # T K
    chosen: np.ndarray      # T K
    total: np.ndarray       # T 1
    passes: np.ndarray      # T 1
    attrs: tuple            # norm, scale
    dtype: np.dtype


def softmax_topk(logits, indices=None, *, k=None, norm="none", eps=0.0, scale=1.0):
    r"""Weigh the `k` most probable experts of every token by their probability over *all* experts.

    .. math:: p_t = \mathrm{softmax}(l_t), \qquad i_t = \mathrm{top}_k(p_t), \qquad w_{tj} = \mathrm{scale} \cdot p_{t i_{tj}} / N_t

    with N_t as in `renormalize`: 1 by default.  With norm ``sum`` this equals `topk_softmax` in exact arithmetic; with k = 1 and
    norm ``none`` it is the Switch gate.

    Parameters
    ----------
    logits : (T, E) real
    indices : (T, K) integer, optional
        A given selection; -1 = no expert.
    k : int
        1 <= k <= E.  May be left out with `indices`.
    norm, eps, scale
        See `renormalize`.

    Returns
    -------
    Routing(indices, weights)
        int64; the dtype of `logits`.
    Saved

    Notes
    -----
    Stored point (`numerics.stored`): probs.

    Raises
    ------
    ValueError
        k out of range; an index outside -1 .. E-1; an unknown norm.

    References
    ----------
    Fedus et al. 2021, eqs 1-2; Riquelme et al. 2021, eq. 1; Jiang et al. 2024 (norm sum).
    """
    OP.admit(logits, indices, k=k, norm=norm, eps=eps)
    probs = numerics.stored(numerics.softmax(numerics.widen(logits)), "probs")
    indices = select(probs, k, indices).astype(np.int64, copy=False)
    chosen = take(probs, indices)
    weights, total, passes = weigh(chosen, indices >= 0, norm, eps, scale)
    return Routing(indices, weights.astype(logits.dtype)), Saved(probs, indices, chosen, total, passes, (norm, scale), logits.dtype)


def softmax_topk_backward(saved, dweights):
    r"""Through the normaliser, then through the full softmax: logits that were not selected learn too.

    .. math:: \bar p_{t i_{tj}} = \bar c_{tj}, \qquad \bar l_{ti} = p_{ti} \Big( \bar p_{ti} - \sum_m p_{tm} \bar p_{tm} \Big)
    """
    dchosen = unweigh(saved.chosen, saved.total, saved.passes, numerics.widen(dweights), *saved.attrs)
    dprobs = untake(dchosen, saved.indices, saved.probs.shape[1])
    return through_softmax(saved.probs, dprobs).astype(saved.dtype)


def _check(dims, logits, indices, *, k=None, norm="none", eps=0.0, scale=1.0):
    require_k("softmax_topk", k, dims.E, logits.shape, indices)
    require_norm("softmax_topk", norm, eps, logits.shape, among=SUMS)


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for case in corpus.logits(rng):
        experts = case.inputs["logits"].shape[1]
        for k in sorted({1, min(2, experts), experts}):
            yield case.with_(f"k{k}", k=k)
            yield case.with_(f"k{k}_sum", k=k, norm="sum", scale=2.5)
        yield case.with_("eps", k=min(2, experts), norm="sum", eps=1e-6)
        yield case.with_("clamp", k=min(2, experts), norm="clamp", eps=0.3)
    for case in corpus.routings(rng):
        logits = corpus.dyadic(rng, len(case.inputs["indices"]), 8)
        yield case.add("given", logits=logits)
        yield case.add("given", logits=logits).with_("sum", norm="sum")


INVALID = (
    (Case("k_above_experts", {"logits": np.zeros((16, 8))}, {"k": 9}), ValueError,
     r"^softmax_topk: k=9 exceeds the 8 experts \(logits has shape \(16, 8\)\)"),
    (Case("id_too_large", {"logits": np.zeros((2, 8)), "indices": np.full((2, 1), 8)}), ValueError, r"^softmax_topk: indices holds 8"),
    (Case("norm_unknown", {"logits": np.zeros((2, 8))}, {"k": 1, "norm": "l3"}), ValueError, r"^softmax_topk: norm='l3' is not one of"),
)


def _weights_are_probabilities(run):
    """Without a normaliser weights are entries of a softmax: never above 1, and summing to 1 over all experts."""
    if run.attrs.get("norm", "none") != "none":
        return None
    w = np.asarray(run.outputs.weights, float)
    if run.dims.K == run.dims.E and run.attrs.get("k"):
        return sums_to_one(run, w, True, run.inputs["logits"])
    return np.isnan(w) | ((w >= 0) & (w <= 1))


def _like_topk_softmax(run):
    """With norm sum: the softmax over the selected logits alone."""
    if run.attrs.get("norm") != "sum" or run.attrs.get("eps"):
        return None
    l, ids = np.asarray(run.inputs["logits"], float), run.outputs.indices
    finite = np.isfinite(l).all(1, keepdims=True) & (np.abs(l) < 40).all(1, keepdims=True)
    t = np.where(ids >= 0, np.exp(np.where(finite, take(np.where(finite, l, 0), ids), 0.0)), 0.0)
    want = run.attrs.get("scale", 1.0) * t / np.maximum(t.sum(1, keepdims=True), 1e-300)
    return ~finite | (np.abs(np.asarray(run.outputs.weights, float) - want) <= 1e-4 * want + 8 * run.unit * want + 1e-6)


REQUIREMENTS = (
    Req("SOFTMAX_TOPK-1", "Without a normaliser a weight is the probability over all experts.", _weights_are_probabilities),
    Req("SOFTMAX_TOPK-2", "With norm sum the weights are the softmax over the selected logits.", _like_topk_softmax),
    Req("SOFTMAX_TOPK-3", "A token without an expert has weights 0 and gradient 0.",
        lambda r: (r.outputs.indices >= 0).any(1, keepdims=True) | ((r.outputs.weights == 0).all(1, keepdims=True) & (r.grads["logits"] == 0))),
)

OP = Op(
    name="gates.softmax_topk",
    inputs=(Arg("logits", "T E"), Arg("indices", "T K", "index", of="E", optional=True)),
    outputs=(Arg("indices", "T K", "index", of="E"), Arg("weights", "T K")),
    forward=softmax_topk,
    backward=softmax_topk_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, E, K, **_: (5 * T * E + 3 * T * K, 4 * T * E + 5 * T * K),
    refs=("Fedus et al. 2021, eqs 1-2", "Riquelme et al. 2021, eq. 1"),
)
