"""Defects of gates."""

from __future__ import annotations

import numpy as np

from moespec import gates, numerics
from moespec.conformance.mutants._mutant import Mutant
from moespec.gates import Routing
from moespec.indexing import take, topk, untake


def _higher_on_ties(scores, indices=None, *, k=None):
    return (scores.shape[1] - 1 - topk(scores[:, ::-1], k), None) if indices is None else gates.topk(scores, indices, k=k)


def _nan_smallest(scores, indices=None, *, k=None):
    with np.errstate(all="ignore"):
        return gates.topk(np.where(np.isnan(scores), scores.dtype.type(-np.inf), scores), indices, k=k)


def _minus_zero_below(scores, indices=None, *, k=None):
    lowered = np.where((scores == 0) & np.signbit(scores), scores.dtype.type(-1e-7), scores)
    return gates.topk(lowered, indices, k=k)


def _ascending(scores, indices=None, *, k=None):
    ids, saved = gates.topk(scores, indices, k=k)
    return ids[:, ::-1].copy(), saved


def _int32(scores, indices=None, *, k=None):
    ids, saved = gates.topk(scores, indices, k=k)
    return ids.astype(np.int32), saved


def _repeats_first(scores, indices=None, *, k=None):
    ids, saved = gates.topk(scores, indices, k=k)
    flat = (scores == scores[:, :1]).all(1, keepdims=True)
    return np.where(flat, ids[:, :1], ids), saved


def _softmax_over_all(logits, indices=None, *, k=None):
    (ids, weights), saved = gates.topk_softmax(logits, indices, k=k)
    return Routing(ids, take(numerics.softmax(numerics.widen(logits)), ids).astype(weights.dtype)), saved


def _direct(saved, dweights):
    return untake(saved.weights * numerics.widen(dweights), saved.indices, saved.experts).astype(saved.dtype)


def _sum_misses_last(logits):
    y, saved = gates.softmax(logits)
    l = numerics.widen(logits)
    with np.errstate(all="ignore"):
        t = np.exp(l - l.max(1, keepdims=True, initial=-np.inf))
        return (t / t[:, : max(1, t.shape[1] - 1)].sum(1, keepdims=True)).astype(y.dtype), saved


def _renorm(**changes):
    def forward(chosen, indices, *, norm="none", eps=0.0, scale=1.0, p=1.0):
        attrs = {"norm": norm, "eps": eps, "scale": scale, "p": p}
        return gates.renormalize(chosen, indices, **{k: v(attrs) if callable(v) else v for k, v in (attrs | changes).items()})
    return forward


def _softmax_topk(**changes):
    def forward(logits, indices=None, *, k=None, norm="none", eps=0.0, scale=1.0):
        attrs = {"norm": norm, "eps": eps, "scale": scale}
        return gates.softmax_topk(logits, indices, k=k, **{n: v(attrs) if callable(v) else v for n, v in (attrs | changes).items()})
    return forward


def _always_renormalised(attrs):
    return "sum" if attrs["norm"] == "none" else attrs["norm"]


def _noisy(change):
    def forward(clean, raw, noise, *, floor=0.01):
        return gates.noisy_logits(*change(clean, raw, noise), floor=floor)
    return forward


def _no_floor(clean, raw, noise, *, floor=0.01):
    return gates.noisy_logits(clean, raw, noise, floor=0.0)


def _k1_weight_one(x, w, jitter=None, indices=None, *, dtype="float32"):
    out, saved = gates.switch(x, w, jitter, indices, dtype=dtype)
    return out._replace(weights=np.ones_like(out.weights)), saved


def _additive_jitter(x, w, jitter=None, indices=None, *, dtype="float32"):
    if jitter is not None:
        x, jitter = (numerics.widen(x) + numerics.widen(jitter)).astype(x.dtype), None
    return gates.switch(x, w, jitter, indices, dtype=dtype)


def _accept_undoubled(logits, uniform, indices=None, **attrs):
    return gates.gshard(logits, (numerics.widen(uniform) * 2).astype(uniform.dtype), indices, **attrs)


def _renormalise_after_rejection(logits, uniform, indices=None, **attrs):
    (ids, weights), saved = gates.gshard(logits, uniform, indices, **attrs)
    lone = (ids[:, 1:] < 0)
    return Routing(ids, np.where(lone, np.where(ids >= 0, weights.dtype.type(1), weights.dtype.type(0)), weights)), saved


def _without_group_weight(group_indices, group_weights, logits, indices=None, **attrs):
    ones = np.where(group_indices >= 0, group_weights.dtype.type(1), group_weights.dtype.type(0))
    return gates.hierarchical(group_indices, ones, logits, indices, **attrs)


def _router_in_bf16(x, w, b=None, *, dtype="float32"):
    import ml_dtypes
    low = [None if a is None else a.astype(ml_dtypes.bfloat16).astype(a.dtype) for a in (x, w, b)]
    return gates.linear(*low, dtype=dtype)


def _bias_twice(x, w, b=None, *, dtype="float32"):
    return gates.linear(x, w, None if b is None else (numerics.widen(b) * 2).astype(b.dtype), dtype=dtype)


def _column_zero_for_missing(scores, indices, *, missing=0.0):
    return gates.gather(scores, np.maximum(indices, 0), missing=missing)


def _not_strict(logits, thresholds, indices=None):
    lowered = np.nextafter(numerics.widen(thresholds), -np.inf) if thresholds.dtype.itemsize >= 4 else numerics.widen(thresholds) - 1e-3
    return gates.threshold(logits, lowered.astype(thresholds.dtype), indices)


def _additive(x, noise):
    return (numerics.widen(x) + numerics.widen(noise) - 1).astype(x.dtype), gates.jitter(x, noise)[1]


def _missing_counted(chosen, indices):
    return gates.selected_softmax(np.where(indices >= 0, chosen, chosen.dtype.type(0)), np.maximum(indices, 0))


def _route(**changes):
    def forward(logits, indices=None, **attrs):
        return gates.route(logits, indices, **{**attrs, **changes})
    return forward


def _clean_selection(x, w_gate, w_noise, noise, indices=None, *, k=None, **attrs):
    if indices is None:
        indices = topk(numerics.widen(x) @ numerics.widen(w_gate), k)
    return gates.noisy_topk(x, w_gate, w_noise, noise, indices, k=k, **attrs)


def _noise_by_gate(x, w_gate, w_noise, noise, indices=None, **attrs):
    return gates.noisy_topk(x, w_gate, w_gate, noise, indices, **attrs)


def _no_sigmoid(saved, dlogits, dsigma):
    dclean, draw = gates.noisy_logits_backward(saved, dlogits, dsigma)
    with np.errstate(all="ignore"):
        return dclean, (numerics.widen(draw) / numerics.expit(numerics.widen(saved.raw))).astype(draw.dtype)


def _accept(**changes):
    def forward(indices, weights, uniform, kept=None, **attrs):
        return gates.accept(indices, weights, uniform, kept, **{**attrs, **changes})
    return forward


def _accept_always(indices, weights, uniform, kept=None, **attrs):
    return gates.accept(indices, weights, np.zeros_like(uniform), kept, **attrs)


def _rejected_keeps_its_weight(indices, weights, uniform, kept=None, **attrs):
    found, saved = gates.accept(indices, weights, uniform, kept, **attrs)
    return (found.kept, np.where(indices >= 0, weights, weights.dtype.type(0))), saved


def _per_token(logits, indices=None, *, k=None):
    if indices is None:
        ids = topk(logits, k)
        indices = np.where(untake(np.ones(ids.shape), ids, logits.shape[1]) > 0, np.arange(logits.shape[1]), -1)
    return gates.batchwise(logits, indices)


def _not_normalised(logits, indices=None, *, k=None):
    (ids, _), saved = gates.batchwise(logits, indices, k=k)
    return (ids, np.where(ids >= 0, saved.probs, 0).astype(logits.dtype)), saved


def _probs_compared_with_logits(logits, thresholds, indices=None):
    given = np.where(logits > thresholds, np.arange(logits.shape[1]), -1) if indices is None else indices
    return gates.threshold(logits, thresholds, given)


def _over_the_whole_layer(group_indices, group_weights, logits, indices=None, *, k, groups):
    found, saved = gates.hierarchical(group_indices, group_weights, logits, indices, k=k, groups=groups)
    share = take(numerics.softmax(numerics.widen(logits)), found.indices)
    gw = np.repeat(numerics.widen(group_weights), k, axis=1)
    return Routing(found.indices, np.where(found.indices >= 0, gw * share, 0).astype(logits.dtype)), saved


def _truncated(a, like):
    y, saved = gates.cast_like(a, like)
    return np.trunc(numerics.widen(y)).astype(y.dtype), saved


MUTANTS = (
    Mutant("gates.cast_like", "rounded to integers", _truncated),
    Mutant("gates.jitter", "additive", _additive),
    Mutant("gates.selected_softmax", "-1 counted as a logit of 0", _missing_counted),
    Mutant("gates.route", "normaliser left out", _route(norm="none")),
    Mutant("gates.route", "softmax over all where it should be over the selected", _route(over="all")),
    Mutant("gates.route", "scale left out", _route(scale=1.0)),
    Mutant("gates.noisy_topk", "selection on the clean logits", _clean_selection),
    Mutant("gates.noisy_topk", "noise scale from the gate's matrix", _noise_by_gate),
    Mutant("gates.noisy_logits", "gradient of the scale without the sigmoid", backward=_no_sigmoid),
    Mutant("gates.accept", "the other rule", _accept(rule="threshold")),
    Mutant("gates.accept", "always accepted", _accept_always),
    Mutant("gates.accept", "a rejected choice keeps its weight", _rejected_keeps_its_weight),
    Mutant("gates.batchwise", "the best experts of a token instead of the best tokens of an expert", _per_token),
    Mutant("gates.batchwise", "not normalised over the mask", _not_normalised),
    Mutant("gates.threshold", "thresholds compared with logits", _probs_compared_with_logits),
    Mutant("gates.hierarchical", "softmax over all experts instead of the group's", _over_the_whole_layer),
    Mutant("gates.topk", "ties to the higher index", _higher_on_ties),
    Mutant("gates.topk", "NaN below every number", _nan_smallest),
    Mutant("gates.topk", "-0.0 below +0.0", _minus_zero_below),
    Mutant("gates.topk", "ids in ascending order", _ascending),
    Mutant("gates.topk", "int32 ids", _int32),
    Mutant("gates.topk", "equal scores choose one id repeatedly", _repeats_first),
    Mutant("gates.topk_softmax", "softmax over all, not renormalised", _softmax_over_all),
    Mutant("gates.topk_softmax", "gradient of an unnormalised exponential", backward=_direct),
    Mutant("gates.softmax", "sum misses the last expert", _sum_misses_last),
    Mutant("gates.renormalize", "eps of 1e-6 where none is stated", _renorm(eps=lambda a: a["eps"] or 1e-6)),
    Mutant("gates.renormalize", "clamp instead of adding eps", _renorm(norm=lambda a: {"sum": "clamp"}.get(a["norm"], a["norm"]))),
    Mutant("gates.renormalize", "scale applied twice", _renorm(scale=lambda a: a["scale"] ** 2)),
    Mutant("gates.softmax_topk", "always renormalised", _softmax_topk(norm=_always_renormalised)),
    Mutant("gates.softmax_topk", "scale left out", _softmax_topk(scale=1.0)),
    Mutant("gates.noisy_logits", "noise added twice", _noisy(lambda c, r, n: (c, r, (n * n.dtype.type(2)).astype(n.dtype)))),
    Mutant("gates.noisy_logits", "scale from the clean logits", _noisy(lambda c, r, n: (c, c, n))),
    Mutant("gates.noisy_logits", "floor left out", _no_floor),
    Mutant("gates.linear", "computed in bfloat16", _router_in_bf16),
    Mutant("gates.linear", "bias added twice", _bias_twice),
    Mutant("gates.gather", "-1 read as expert 0", _column_zero_for_missing),
    Mutant("gates.switch", "renormalised: weight 1", _k1_weight_one),
    Mutant("gates.switch", "additive jitter", _additive_jitter),
    Mutant("gates.gshard", "second choice accepted by g2 instead of 2 g2", _accept_undoubled),
    Mutant("gates.gshard", "renormalised after the rejection", _renormalise_after_rejection),
    Mutant("gates.hierarchical", "weight of the group left out", _without_group_weight),
    Mutant("gates.threshold", "at the threshold counts as above", _not_strict),
)
