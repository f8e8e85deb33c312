"""Defects of routers other than top-k, of Soft MoE's mixing, and of bias updates."""

from __future__ import annotations

import numpy as np

from moespec import dispatch, gates, numerics
from moespec.conformance.mutants._mutant import Mutant
from moespec.dispatch import Mixed
from moespec.gates import Routing, SoftRouting
from moespec.indexing import finite_scores, topk
from moespec.numerics import widen


def _tokens_choose(scores, group=None, indices=None, *, capacity=None):
    out, saved = gates.expert_choice(scores, group, indices, capacity=capacity)
    if indices is not None or not scores.size:
        return out, saved
    mask = (topk(scores, 1) == np.arange(scores.shape[1])) & (capacity > 0)
    return Routing(np.where(mask, np.arange(scores.shape[1]), -1), np.where(mask, scores, 0).astype(scores.dtype)), saved._replace(mask=mask)


def _later_token(scores, group=None, indices=None, *, capacity=None):
    flipped = [None if a is None else a[::-1] for a in (scores, group, indices)]
    (ids, weights), saved = gates.expert_choice(*flipped, capacity=capacity)
    return Routing(ids[::-1].copy(), weights[::-1].copy()), saved._replace(mask=saved.mask[::-1])


def _one_group(scores, group=None, indices=None, *, capacity=None):
    return gates.expert_choice(scores, None, indices, capacity=capacity)


def _renormalised(op):
    def forward(*inputs, **attrs):
        (ids, weights), saved = op(*inputs, **attrs)
        w = widen(weights)
        with np.errstate(all="ignore"):
            return Routing(ids, numerics.safe_divide(w, w.sum(1, keepdims=True)).astype(weights.dtype)), saved
    return forward


def _eps_under_root(x, scale=None, *, axis=1, eps=1e-6):
    y, saved = gates.l2_normalize(x, scale, axis=axis, eps=eps)
    wide = widen(x)
    y = wide / np.sqrt((wide * wide).sum(axis, keepdims=True) + eps)
    return (y if scale is None else widen(scale) * y).astype(x.dtype), saved


def _length_constant(saved, dy):
    dx, dscale = gates.l2_normalize_backward(saved, dy)
    s = 1.0 if saved.scale is None else saved.scale
    return (s * widen(dy) / (saved.norm + saved.attrs[1])).astype(dx.dtype), dscale


def _dispatch_over_slots(logits, group=None):
    (_, combine), saved = gates.soft(logits, group)
    return SoftRouting(combine, combine), saved


def _soft_one_group(logits, group=None):
    return gates.soft(logits)


def _combine_alone(saved, ddispatch, dcombine):
    return gates.soft_backward(saved, np.zeros_like(ddispatch), dcombine)


def _group_major(x, d, group=None, *, experts, groups=1):
    (rows, offsets), saved = dispatch.mix(x, d, group, experts=experts, groups=groups)
    return Mixed(rows.reshape(-1, groups, x.shape[1]).swapaxes(0, 1).reshape(rows.shape), offsets), saved


def _all_tokens(x, d, group=None, *, experts, groups=1):
    (rows, offsets), saved = dispatch.mix(x, d, group, experts=experts, groups=groups)
    return Mixed(np.repeat(widen(d).T @ widen(x), groups, axis=0).astype(rows.dtype), offsets), saved


def _first_group(rows, combine, group=None, *, groups=1):
    y, saved = dispatch.unmix(rows, combine, group, groups=groups)
    return (widen(combine) @ widen(rows)[::groups]).astype(y.dtype), saved


def _slots_learn_from_all(saved, dy):
    drows, dcombine = dispatch.unmix_backward(saved, dy)
    s, groups, width = saved.slots.shape
    return np.repeat(saved.combine.T @ widen(dy), groups, axis=0).reshape(s * groups, width).astype(drows.dtype), dcombine


def _zero_is_on(logits, indices=None):
    (ids, weights), saved = gates.relu_route(logits, indices)
    return Routing(np.where(logits == 0, np.arange(logits.shape[1]), ids) if indices is None else ids, weights), saved


def _nan_off(logits, indices=None):
    return gates.relu_route(np.where(np.isnan(logits), np.zeros_like(logits), logits), indices)


def _straight_through(saved, dweights):
    return dweights.astype(saved.dtype)


def _crossing_left_out(scores, indices=None, *, p=None, at_most=None):
    (ids, weights), saved = gates.top_p(scores, indices, p=p, at_most=at_most)
    if indices is not None:
        return Routing(ids, weights), saved
    last = (np.cumsum(ids >= 0, axis=1) == (ids >= 0).sum(1, keepdims=True)) & (np.arange(ids.shape[1]) > 0)
    ids = np.where(last, -1, ids)
    return Routing(ids, np.where(ids >= 0, weights, 0).astype(weights.dtype)), saved._replace(indices=ids)


def _strictly_above(scores, indices=None, *, p=None, at_most=None):
    return gates.top_p(scores, indices, p=None if p is None else min(1.0, np.nextafter(np.float32(p), np.float32(2)).item()), at_most=at_most)


def _greedy(scores, indices=None):
    if indices is not None or not scores.size:
        return gates.assign(scores, indices)
    return topk(finite_scores(scores), 1), None


def _first_come(scores, indices=None):
    """Every token takes the best expert that has room."""
    if indices is not None:
        return gates.assign(scores, indices)
    s, room = finite_scores(scores), np.full(scores.shape[1], len(scores) // scores.shape[1])
    ids = np.zeros((len(s), 1), np.int64)
    for t, row in enumerate(s):
        ids[t] = np.where(room > 0, row, -np.inf).argmax()
        room[ids[t]] -= 1
    return ids, None


def _no_shift(logits, *, iterations=20):
    k, e = np.exp(widen(logits)), logits.shape[1]
    if not logits.size:
        return gates.sinkhorn(logits, iterations=iterations)
    cols = np.ones(e, k.dtype)
    with np.errstate(all="ignore"):
        for _ in range(iterations):
            rows = 1 / (k @ cols)
            cols = len(k) / e / (k.T @ rows)
        return (rows[:, None] * k * cols).astype(logits.dtype), None


def _rows_last(logits, *, iterations=20):
    plan, _ = gates.sinkhorn(logits, iterations=iterations)
    with np.errstate(all="ignore"):
        return (widen(plan) / widen(plan).sum(1, keepdims=True)).astype(plan.dtype), None


def _measure(logits, *, iterations=20):
    plan, _ = gates.sinkhorn(logits, iterations=iterations)
    return (widen(plan) / max(len(plan), 1)).astype(plan.dtype), None


def _flipped(bias, counts, *, rate):
    return gates.bias_sign(bias, counts, rate=-rate)


def _rounded_mean(bias, counts, *, rate):
    return (widen(bias) + rate * np.sign(counts.sum() // len(counts) - counts)).astype(bias.dtype), None


def _float32_counts(bias, counts, *, rate):
    n = counts.astype(np.float32)
    return (widen(bias) + rate * np.sign(n.mean() - n)).astype(bias.dtype), None


def _in_place(bias, counts, *, rate):
    updated, _ = gates.bias_sign(bias, counts, rate=rate)
    return (updated + (updated - bias)).astype(bias.dtype), None


def _at_the_mean_stays(bias, counts, *, rate):
    """Centred over the experts that move, and over them alone."""
    side = np.sign(counts.sum() - len(counts) * counts)
    return (widen(bias) + rate * np.where(side == 0, 0, side - side.sum() / max(np.count_nonzero(side), 1))).astype(bias.dtype), None


def _free_move_too(bias, counts, *, ffn_experts=None, **attrs):
    return gates.bias_proportional(bias, counts, **attrs)


def _all_expected(bias, counts, *, expected=None, **attrs):
    return gates.bias_proportional(bias, counts, **attrs)


def _subtracted(scores, bias, *, k):
    return -gates.quantile_bias(scores, bias, k=k)[0], None


def _last_selected(scores, bias, *, k):
    return gates.quantile_bias(scores, bias, k=k - 1 or scores.shape[1] - 1)


MUTANTS = (
    Mutant("gates.expert_choice", "tokens choose", _tokens_choose),
    Mutant("gates.expert_choice", "ties to the later token", _later_token),
    Mutant("gates.expert_choice", "groups ignored", _one_group),
    Mutant("gates.expert_choice", "weights renormalised", _renormalised(gates.expert_choice)),
    Mutant("gates.l2_normalize", "epsilon under the root", _eps_under_root),
    Mutant("gates.l2_normalize", "length constant in backward", backward=_length_constant),
    Mutant("gates.soft", "dispatch over the slots", _dispatch_over_slots),
    Mutant("gates.soft", "groups ignored", _soft_one_group),
    Mutant("gates.soft", "gradient through combine alone", backward=_combine_alone),
    Mutant("dispatch.mix", "rows in group order", _group_major),
    Mutant("dispatch.mix", "groups ignored", _all_tokens),
    Mutant("dispatch.unmix", "every token reads the first group", _first_group),
    Mutant("dispatch.unmix", "slots learn from all groups", backward=_slots_learn_from_all),
    Mutant("gates.relu_route", "a logit of 0 is on", _zero_is_on),
    Mutant("gates.relu_route", "NaN is off", _nan_off),
    Mutant("gates.relu_route", "gradient through experts that are off", backward=_straight_through),
    Mutant("gates.top_p", "crossing expert left out", _crossing_left_out),
    Mutant("gates.top_p", "p must be exceeded", _strictly_above),
    Mutant("gates.top_p", "weights renormalised", _renormalised(gates.top_p)),
    Mutant("gates.assign", "every token its best expert", _greedy),
    Mutant("gates.assign", "first come, first served", _first_come),
    Mutant("gates.sinkhorn", "exponentials overflow", _no_shift),
    Mutant("gates.sinkhorn", "ends with the rows", _rows_last),
    Mutant("gates.sinkhorn", "columns sum to 1 / E", _measure),
    Mutant("gates.bias_sign", "sign flipped", _flipped),
    Mutant("gates.bias_sign", "mean load rounded down", _rounded_mean),
    Mutant("gates.bias_sign", "counts in float32", _float32_counts),
    Mutant("gates.bias_sign", "applied twice", _in_place),
    Mutant("gates.bias_centred", "mean not taken off", gates.bias_sign),
    Mutant("gates.bias_centred", "experts at the mean stay", _at_the_mean_stays),
    Mutant("gates.bias_proportional", "experts that cost nothing move too", _free_move_too),
    Mutant("gates.bias_proportional", "target of all choices", _all_expected),
    Mutant("gates.quantile_bias", "sign of a bias that is subtracted", _subtracted),
    Mutant("gates.quantile_bias", "threshold one expert off", _last_selected),
)
