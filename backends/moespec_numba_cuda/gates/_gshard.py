"""gates.gshard."""

from __future__ import annotations

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import common, empty, like, read
from moespec_numba_cuda._device import cuda, device
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda._rows import clear, inner, legal
from moespec_numba_cuda.gates._accept import factor, kept_row, mask_row
from moespec_numba_cuda.gates._gather import take_row, untake_row
from moespec_numba_cuda.gates._order import choose, selection
from moespec_numba_cuda.gates._softmax import softmax_row, through_softmax_row


class Saved(NamedTuple):
    logits: Any             # T E   as they came
    probs: Any              # T E
    pair: Any               # T 2   both candidates, also a rejected one
    shares: Any             # T 2   normalised, before the decision
    total: Any              # T
    kept: Any               # T 2


def forward(logits, uniform, indices=None, *, rule="gshard", threshold=0.2):
    dims = admit("gates.gshard", logits, uniform, indices, rule=rule, threshold=threshold)
    (x, u), (given, kept) = common(logits, uniform), selection(indices, dims.T, 2)
    saved = Saved(logits, empty(x.shape, x.dtype), empty(kept.shape, "int64"), empty(kept.shape, x.dtype), empty(dims.T, x.dtype), kept)
    weights = empty(kept.shape, x.dtype)
    _forward(items(dims.T), x, u, given, *factor(rule, threshold), *saved[1:], weights)
    return (kept, like(logits, weights)), saved


def backward(saved, dweights):
    probs = saved.probs
    d, dlogits = empty(saved.kept.shape, probs.dtype), empty(probs.shape, probs.dtype)
    _backward(items(len(probs)), *saved[1:], read(dweights, probs.dtype), d, dlogits)
    return like(saved.logits, dlogits)


@device
def _replace(pair, first, second):
    """The candidates of a given routing: its own, and for a rejected second the best of the others."""
    other = pair[1] if pair[0] == first else pair[0]
    pair[0] = first
    pair[1] = second if second >= 0 else other


@kernel("T2 T1 i2 T T T2 i2 T2 T1 i2 T2")
def _forward(logits, uniform, given, times, by, probs, pair, shares, total, kept, weights):
    experts, zero = logits.shape[1], logits.dtype.type(0)
    for t in range(cuda.grid(1), len(logits), cuda.gridsize(1)):
        softmax_row(logits[t], probs[t])
        choose(probs[t], pair[t], shares[t])
        if len(given) > 0:
            _replace(pair[t], legal(given[t, 0], experts), legal(given[t, 1], experts))
        take_row(probs[t], pair[t], zero, shares[t])
        total[t] = shares[t, 0] + shares[t, 1]
        for j in range(2):
            shares[t, j] /= total[t]
        taken = legal(given[t, 1], experts) >= 0 if len(given) > 0 else shares[t, 1] * times / by > uniform[t]
        kept_row(pair[t], taken, kept[t])
        mask_row(shares[t], kept[t], weights[t])


@kernel("T2 i2 T2 T1 i2 T2 T2 T2")
def _backward(probs, pair, shares, total, kept, dweights, d, dlogits):
    for t in range(cuda.grid(1), len(probs), cuda.gridsize(1)):
        mask_row(dweights[t], kept[t], d[t])
        through = inner(d[t], shares[t])
        for j in range(2):
            d[t, j] = (d[t, j] - through) / total[t]
        clear(dlogits[t])
        untake_row(d[t], pair[t], dlogits[t])
        through_softmax_row(probs[t], dlogits[t], dlogits[t])


IMPL = Impl(forward, backward)
