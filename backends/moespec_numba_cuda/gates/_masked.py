"""Weights under a mask of experts, which the strictly balanced gates share, and what lies under such a mask."""

from __future__ import annotations

from typing import Any, NamedTuple

from moespec_numba_cuda._arrays import empty, flat, like, read
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda.gates._softmax import through_softmax_row


class Saved(NamedTuple):
    logits: Any             # T E   as they came
    probs: Any              # T E
    ids: Any                # T E   i or -1 in column i
    weights: Any            # T E
    total: Any              # T


def columns(mask):
    """A given mask, of which only the signs count."""
    ids = empty(mask.shape, "int64")
    _columns(items(ids.size), read(mask, "int64"), ids)
    return ids


def masked_routing(logits, probs, ids):
    """((ids, weights), saved): the probabilities that the mask leaves, divided by their sum."""
    saved = Saved(logits, probs, ids, empty(probs.shape, probs.dtype), empty(len(probs), probs.dtype))
    _forward(items(len(probs)), *saved[1:])
    return (ids, like(logits, saved.weights)), saved


def masked_routing_backward(saved, dweights):
    """The mask is constant; inside it the quotient rule, then the softmax."""
    probs = saved.probs
    dlogits = empty(probs.shape, probs.dtype)
    _backward(items(len(probs)), *saved[1:], read(dweights, probs.dtype), dlogits)
    return like(saved.logits, dlogits)


def under_mask(values, ids):
    """The values where there is an id, 0 elsewhere."""
    masked = empty(values.shape, values.dtype)
    _under_mask(items(ids.size), flat(values), flat(ids), flat(masked))
    return masked


@kernel("i2 i2")
def _columns(mask, ids):
    tokens, experts = mask.shape
    for i in range(cuda.grid(1), tokens * experts, cuda.gridsize(1)):
        t, e = i // experts, i % experts
        ids[t, e] = e if mask[t, e] >= 0 else -1


@kernel("T2 i2 T2 T1")
def _forward(probs, ids, weights, total):
    (tokens, experts), zero, one = probs.shape, probs.dtype.type(0), probs.dtype.type(1)
    for t in range(cuda.grid(1), tokens, cuda.gridsize(1)):
        whole, live = zero, False
        for e in range(experts):
            if ids[t, e] >= 0:
                live = True
                whole += probs[t, e]
        whole = whole if live else one
        for e in range(experts):
            weights[t, e] = probs[t, e] / whole if ids[t, e] >= 0 else zero
        total[t] = whole


@kernel("T2 i2 T2 T1 T2 T2")
def _backward(probs, ids, weights, total, dweights, dlogits):
    (tokens, experts), zero = probs.shape, probs.dtype.type(0)
    for t in range(cuda.grid(1), tokens, cuda.gridsize(1)):
        through = zero
        for e in range(experts):
            through += dweights[t, e] * weights[t, e]
        for e in range(experts):
            dlogits[t, e] = (dweights[t, e] - through) / total[t] if ids[t, e] >= 0 else zero
        through_softmax_row(probs[t], dlogits[t], dlogits[t])


@kernel("T1 i1 T1")
def _under_mask(values, ids, masked):
    zero = values.dtype.type(0)
    for i in range(cuda.grid(1), len(values), cuda.gridsize(1)):
        masked[i] = values[i] if ids[i] >= 0 else zero
