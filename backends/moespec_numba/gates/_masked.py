"""Weights under a mask of experts, which both strictly balanced gates share."""

from typing import NamedTuple

import numpy as np

from moespec_numba._kernel import empty, kernel, read
from moespec_numba.gates._softmax import through_softmax_row


class Saved(NamedTuple):
    probs: np.ndarray       # T E
    indices: np.ndarray     # T E   the mask: i or -1 in column i
    weights: np.ndarray     # T E
    total: np.ndarray       # T
    dtype: np.dtype


def masked_routing(probs, ids, dtype):
    """((ids, weights), saved): the probabilities that the mask leaves, divided by their sum."""
    saved = Saved(read(probs), read(ids), empty(probs.shape, probs.dtype), empty(len(probs), probs.dtype), dtype)
    _forward(*saved[:4])
    return (ids, saved.weights.astype(dtype, copy=False)), saved


def masked_routing_backward(saved, dweights):
    """The mask is constant; inside it the quotient rule, then the softmax."""
    dlogits = empty(saved.probs.shape, saved.probs.dtype)
    _backward(*map(read, saved[:4]), read(dweights, saved.probs.dtype), dlogits)
    return dlogits.astype(saved.dtype, copy=False)


@kernel
def _forward(probs, ids, weights, total):
    tokens, experts = probs.shape
    for t in range(tokens):
        live, total[t] = False, 0
        for e in range(experts):
            if ids[t, e] >= 0:
                live, total[t] = True, total[t] + probs[t, e]
        if not live:
            total[t] = 1
        for e in range(experts):
            weights[t, e] = probs[t, e] / total[t] if ids[t, e] >= 0 else 0


@kernel
def _backward(probs, ids, weights, total, dweights, dlogits):
    tokens, experts = probs.shape
    for t in range(tokens):
        through = probs.dtype.type(0)
        for e in range(experts):
            through += dweights[t, e] * weights[t, e]
        for e in range(experts):
            dlogits[t, e] = (dweights[t, e] - through) / total[t] if ids[t, e] >= 0 else 0
        through_softmax_row(probs[t], dlogits[t], dlogits[t])
