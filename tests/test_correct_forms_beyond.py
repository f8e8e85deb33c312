"""Right kernels of the routers beyond top-k and of the balance losses, written as others write them: the suite must admit each."""

import ml_dtypes  # noqa: F401
import numpy as np
import pytest
from test_correct_forms import exp2, failures, wide

from moespec import gates, indexing, losses
from moespec.conformance.mutants import Mutant, Mutated
from moespec.dispatch import Mixed
from moespec.gates import Routing, SoftRouting
from moespec.registry import OPS


def sinkhorn_by_scaling(logits, *, iterations=20):
    """Scales that multiply, after the largest logit of every token is taken off."""
    (l,) = wide(logits)
    if not l.size:
        return logits, None
    with np.errstate(all="ignore"):
        k, cols = np.exp(l - l.max(1, keepdims=True)), np.ones(l.shape[1], l.dtype)
        for _ in range(iterations):
            rows = 1 / (k @ cols)
            cols = l.dtype.type(len(l) / l.shape[1]) / (rows @ k)
        return (k * rows[:, None] * cols).astype(logits.dtype), None


def soft_by_scatter(logits, group=None):
    """Group maxima and sums by scattering, exp2, reciprocals."""
    (l,) = wide(logits)
    own = np.zeros(len(l), int) if group is None else group
    top, total = (np.full((int(own.max(initial=0)) + 1, l.shape[1]), v, l.dtype) for v in (-np.inf, 0))
    with np.errstate(all="ignore"):
        np.maximum.at(top, own, l)
        t = exp2(l - top[own])
        np.add.at(total, own, t)
        d = t * (1 / total)[own]
        u = exp2(l - l.max(1, keepdims=True, initial=-np.inf))
        c = u * (1 / u.sum(1, keepdims=True))
    return SoftRouting(d.astype(logits.dtype), c.astype(logits.dtype)), (d, c, own, logits.dtype)


def soft_by_scatter_backward(saved, ddispatch, dcombine):
    d, c, own, dtype = saved
    dd, dc = wide(ddispatch, dcombine)
    total = np.zeros((int(own.max(initial=0)) + 1, d.shape[1]), d.dtype)
    np.add.at(total, own[::-1], (d * dd)[::-1])
    return (d * dd - d * total[own] + c * dc - c * (c * dc).sum(1, keepdims=True)).astype(dtype)


def another_assignment(scores, indices=None):
    """Of equal totals another one: the tokens in reverse order."""
    if indices is not None:
        return gates.assign(scores, indices)
    return indexing.balanced_assignment(scores[::-1])[::-1, None].copy(), None


def top_p_by_inclusive_sums(scores, indices=None, *, p=None, at_most=None):
    """The sum before an expert is the sum up to it minus its own score."""
    if indices is not None:
        return gates.top_p(scores, indices, p=p, at_most=at_most)
    (s,) = wide(scores)
    ids = indexing.topk(s, at_most or s.shape[1])
    mine = np.take_along_axis(s, ids, 1)
    kept = ~(np.cumsum(mine, axis=1) - mine >= p) | (np.arange(ids.shape[1]) == 0)
    kept = np.logical_and.accumulate(kept, axis=1)
    ids = np.where(kept, ids, -1)
    return Routing(ids, np.where(kept, mine, 0).astype(scores.dtype)), gates.top_p(scores, ids)[1]


def rsqrt(x, scale=None, *, axis=1, eps=1e-6):
    (w, s) = wide(x, scale)
    y = w * (1 / (np.linalg.norm(w, axis=axis, keepdims=True) + w.dtype.type(eps)))
    return (y if s is None else y * s).astype(x.dtype), gates.l2_normalize(x, scale, axis=axis, eps=eps)[1]


def one_hot(group, tokens, groups, dtype):
    own = np.zeros(tokens, int) if group is None else group
    return (own[:, None] == np.arange(groups)).astype(dtype)


def mix_by_einsum(x, dispatch, group=None, *, experts, groups=1):
    v, d = wide(x, dispatch)
    g = one_hot(group, len(v), groups, v.dtype)
    rows = np.einsum("ts,tg,td->sgd", d, g, v).reshape(-1, v.shape[1])
    offsets = np.arange(experts + 1) * (len(rows) // experts)
    return Mixed(rows.astype(x.dtype), offsets), (v, d, g, x.dtype, dispatch.dtype)


def mix_by_einsum_backward(saved, drows):
    v, d, g, kind, kind_d = saved
    (r,) = wide(drows)
    r = np.einsum("tg,sgd->tsd", g, r.reshape(d.shape[1], g.shape[1], v.shape[1]))
    return np.einsum("ts,tsd->td", d, r).astype(kind), np.einsum("td,tsd->ts", v, r).astype(kind_d)


def entropy_by_probabilities(logits, mask=None):
    (l,) = wide(logits)
    valid = np.ones(len(l), bool) if mask is None else mask
    with np.errstate(all="ignore"):
        p = np.exp(l - l.max(1, keepdims=True, initial=-np.inf))
        p = p / p.sum(1, keepdims=True)
        h = -np.where(p == 0, 0, p * np.log(p)).sum(1)
    return np.asarray(np.where(valid, h, 0).sum() / max(valid.sum(), 1), l.dtype), losses.router_entropy(logits, mask)[1]


def balance_by_products(probs, indices, mask=None, *, choices=None, normalizer="assignments"):
    """The sum over tokens and experts of probability times count, normalised at the end."""
    (p,) = wide(probs)
    ids = indices[:, :choices]
    valid = np.ones(len(p), bool) if mask is None else mask
    counts = (ids[valid][:, :, None] == np.arange(p.shape[1])).sum((0, 1)).astype(p.dtype)
    n = max(int(valid.sum()), 1)
    loss = np.asarray(p[valid].sum(0) @ counts * p.dtype.type(p.shape[1] / (n * n * (max(ids.shape[1], 1) if normalizer == "assignments" else 1))))
    return loss.astype(p.dtype), losses.load_balance(probs, indices, mask, choices=choices, normalizer=normalizer)[1]


def sequence_by_division_last(scores, indices, group=None, mask=None, *, normalize=True, normalizer="assignments"):
    (s,) = wide(scores)
    loss, saved = losses.sequence_balance(scores, indices, group, mask, normalize=normalize, normalizer=normalizer)
    if normalize:
        rows = (np.where(saved.weights != 0, s * saved.weights, 0)).sum(1)
        total = s.sum(1)
        loss = np.asarray(np.where(rows != 0, rows / np.where(total == 0, 1, total), 0)[::-1].sum(), loss.dtype)
    return loss, saved


def gates_by_expert(indices, weights, mask=None, *, experts, k=None):
    """Sums per expert first; all constants in one, of several roundings."""
    (w,) = wide(weights)
    valid = (indices >= 0) if mask is None else (indices >= 0) & mask[:, None]
    n = w.dtype.type(max(len(w) if mask is None else int(mask.sum()), 1))
    load = np.bincount(indices[valid], minlength=experts).astype(w.dtype)
    f = np.ones(experts, w.dtype) if k is None else load * (1 / n) * w.dtype.type(experts) * (1 / w.dtype.type(k))
    per = np.zeros(experts, w.dtype)
    np.add.at(per, indices[valid], w[valid])
    loss = (np.where(f != 0, per, 0) * f).sum(dtype=w.dtype) * (1 / n)
    return loss, (np.where(valid, f[indices] * (1 / n), 0), weights.dtype)


def gates_by_expert_backward(saved, dloss):
    return (saved[0] * dloss).astype(saved[1])


def centred_in_working_precision(bias, counts, *, rate):
    """The mean times the rate comes off at the end, by a reciprocal."""
    (b,) = wide(bias)
    rate, side = b.dtype.type(rate), np.sign(counts.mean() - counts).astype(b.dtype)
    return (b + rate * side - rate * (side.sum() * (1 / b.dtype.type(len(b))))).astype(bias.dtype), None


def centred_before_the_rate(bias, counts, *, rate):
    (b,) = wide(bias)
    side = np.sign(counts.sum() - len(b) * counts).astype(b.dtype)
    return (b + b.dtype.type(rate) * (side - side.mean(dtype=b.dtype))).astype(bias.dtype), None


FORMS = [
    ("losses.gate_l1", "by expert", gates_by_expert, gates_by_expert_backward, ()),
    ("gates.bias_centred", "mean last", centred_in_working_precision, None, ()),
    ("gates.bias_centred", "mean first", centred_before_the_rate, None, ()),
    ("gates.sinkhorn", "scales that multiply", sinkhorn_by_scaling, None, ("huge", "tiny_shares")),
    ("gates.soft", "scatter, exp2, reciprocal", soft_by_scatter, soft_by_scatter_backward, ()),
    ("gates.assign", "another of equal totals", another_assignment, None, ()),
    ("gates.top_p", "inclusive sums", top_p_by_inclusive_sums, None, ()),
    ("gates.l2_normalize", "reciprocal", rsqrt, None, ()),
    ("dispatch.mix", "einsum", mix_by_einsum, mix_by_einsum_backward, ("nan_stays_in_its_group",)),
    ("losses.router_entropy", "p log p", entropy_by_probabilities, None, ()),
    ("losses.load_balance", "normalised last", balance_by_products, None, ()),
    ("losses.sequence_balance", "divided last", sequence_by_division_last, None, ()),
]


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize(("name", "form", "forward", "backward", "skip"), FORMS, ids=[f"{f[0]}: {f[1]}" for f in FORMS])
def test_a_correct_form_is_admitted(name, form, forward, backward, skip, dtype):
    """Skipped: what underflows in the form, and 0 times NaN across groups, which the specification rules out."""
    assert not failures(Mutated(Mutant(name, form, forward, backward)), OPS[name], dtype, skip)
