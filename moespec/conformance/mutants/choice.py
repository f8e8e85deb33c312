"""Defects of selections that do more than take the k largest."""

from __future__ import annotations

import numpy as np

from moespec import gates, numerics
from moespec.conformance.mutants._mutant import Mutant
from moespec.gates import Routing
from moespec.indexing import take, topk


def _select(**changes):
    """`gates.select` under other attributes; a change may be a function of the given ones."""
    def forward(scores, bias=None, indices=None, **attrs):
        return gates.select(scores, bias, indices, **{**attrs, **{n: v(attrs) if callable(v) else v for n, v in changes.items()}})
    return forward


def _bias_left_out(scores, bias=None, indices=None, **attrs):
    return gates.select(scores, None, indices, **attrs)


def _finite_sentinel(scores, bias=None, indices=None, **attrs):
    if indices is not None or attrs.get("fill", -np.inf) == 0:
        return gates.select(scores, bias, indices, **attrs)
    lifted = np.maximum(scores, scores.dtype.type(-1e9))               # what lies below the sentinel is lost in it
    return gates.select(lifted, bias, **attrs)


def _higher_group_on_ties(scores, bias=None, indices=None, *, groups=1, **attrs):
    if indices is not None or groups == 1:
        return gates.select(scores, bias, indices, groups=groups, **attrs)
    size = scores.shape[1] // groups
    turned = np.arange(scores.shape[1]).reshape(groups, size)[::-1].ravel()
    found, saved = gates.select(scores[:, turned], None if bias is None else bias[turned], groups=groups, **attrs)
    return turned[found], saved


def _padding_reads_the_last_row(tokens, table):
    return (table[tokens] if len(table) else gates.lookup(tokens, table)[0]).astype(np.int64), None


def _table_read_flat(tokens, table):
    places = np.maximum(tokens, 0)[:, None] + len(table) * np.arange(table.shape[1])          # a row-major table read as column-major
    return np.where((tokens >= 0)[:, None], table.ravel()[places], -1).astype(np.int64), None


def _limit_inclusive(indices, weights, *, experts):
    return gates.limit_ids(indices, weights, experts=experts + 1)


def _limit_keeps_weights(indices, weights, *, experts):
    (kept, _), saved = gates.limit_ids(indices, weights, experts=experts)
    return (kept, np.where(indices >= 0, weights, weights.dtype.type(0))), saved


def _limit_to_expert_0(indices, weights, *, experts):
    (kept, kept_weights), saved = gates.limit_ids(indices, weights, experts=experts)
    return (np.where(indices >= experts, 0, kept), kept_weights), saved


def _halves_swapped(first, second, indices=None, *, k=None):
    n = first.shape[1]
    if indices is None:
        found = gates.product_keys(first, second, k=k)[0].indices
        indices = found % n * n + found // n
    return gates.product_keys(first, second, indices, k=k)


def _only_equal_ranks(first, second, indices=None, *, k=None):
    """The j-th best of one half with the j-th best of the other."""
    n = first.shape[1]
    if indices is None and k <= n:
        indices = topk(first, k) * n + topk(second, k)
    return gates.product_keys(first, second, indices, k=k)


def _ties_by_rank(first, second, indices=None, *, k=None):
    """Candidates in the order of their ranks, not of their ids."""
    if indices is None:
        n, h = first.shape[1], min(k, first.shape[1])
        a, b = topk(first, h), topk(second, h)
        sums = np.take_along_axis(first, a, 1)[:, :, None] + np.take_along_axis(second, b, 1)[:, None, :]
        ids = (a[:, :, None] * n + b[:, None, :]).reshape(len(a), h * h)
        indices = np.take_along_axis(ids, topk(sums.reshape(ids.shape), k), 1)
    return gates.product_keys(first, second, indices, k=k)


def _sparsemixer(**changes):
    def forward(logits, indices=None, noise=None, heun=None, **attrs):
        return gates.sparsemixer(logits, indices, **{"noise": noise, "heun": heun, **attrs, **changes})
    return forward


def _relative_to_the_best(logits, indices=None, noise=None, heun=None, *, k=2, eps=0.01):
    """max(l, m) where max(|l|, m) is meant."""
    (ids, weights), saved = gates.sparsemixer(logits, indices, noise, heun, k=k, eps=eps)
    wide = numerics.widen(logits)
    top = wide.max(1, keepdims=True)
    with np.errstate(all="ignore"):
        t = np.where(top - wide > 2 * eps * np.maximum(wide, top), 0.0, np.exp(wide - top))
        share = take(t / t.sum(1, keepdims=True), ids[:, :1])
    weights = weights.copy()
    weights[:, :1] = share.astype(weights.dtype) if heun is None else weights[:, :1]
    return Routing(ids, weights), saved


def _sums_to_one(logits, indices=None, noise=None, heun=None, **attrs):
    (ids, weights), saved = gates.sparsemixer(logits, indices, noise, heun, **attrs)
    return Routing(ids, gates.renormalize(weights, ids, norm="sum")[0]), saved


def _first_stays(logits, indices=None, noise=None, heun=None, *, k=2, eps=0.01):
    """The first choice still counts in the second round's softmax."""
    routing, saved = gates.sparsemixer(logits, indices, noise, heun, k=k, eps=eps)
    if k < 2:
        return routing, saved
    weights = routing.weights.copy()
    weights[:, 1:2] = take(saved.probs[0], routing.indices[:, 1:2]).astype(weights.dtype)
    return Routing(routing.indices, weights), saved


MUTANTS = (
    Mutant("gates.select", "bias left out", _bias_left_out),
    Mutant("gates.select", "masked with 0", _select(fill=0.0)),
    Mutant("gates.select", "masked with a finite sentinel", _finite_sentinel),
    Mutant("gates.select", "a group judged by its maximum", _select(reduce="max")),
    Mutant("gates.select", "a group judged without the bias", _select(base="raw")),
    Mutant("gates.select", "groups left out", _select(keep=lambda attrs: attrs.get("groups", 1))),
    Mutant("gates.select", "ties to the higher group", _higher_group_on_ties),
    Mutant("gates.lookup", "padding reads the last row", _padding_reads_the_last_row),
    Mutant("gates.lookup", "table read column by column", _table_read_flat),
    Mutant("gates.limit_ids", "the first class above the experts kept", _limit_inclusive),
    Mutant("gates.limit_ids", "weight of what is taken out kept", _limit_keeps_weights),
    Mutant("gates.limit_ids", "taken out becomes expert 0", _limit_to_expert_0),
    Mutant("gates.product_keys", "halves swapped in the id", _halves_swapped),
    Mutant("gates.product_keys", "only keys of equal rank paired", _only_equal_ranks),
    Mutant("gates.product_keys", "ties by rank instead of id", _ties_by_rank),
    Mutant("gates.sparsemixer", "threshold of the default eps", _sparsemixer(eps=0.01)),
    Mutant("gates.sparsemixer", "noise left out", _sparsemixer(noise=None)),
    Mutant("gates.sparsemixer", "Heun's factor left out", _sparsemixer(heun=None)),
    Mutant("gates.sparsemixer", "distance relative to the logit instead of its size", _relative_to_the_best),
    Mutant("gates.sparsemixer", "weights renormalised", _sums_to_one),
    Mutant("gates.sparsemixer", "the first choice stays in the second round", _first_stays),
)
