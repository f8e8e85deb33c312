"""gates.topk_softmax, and with a normaliser behind it the router that scores the selected experts alone."""

from typing import NamedTuple

import numpy as np
from numba import prange

from moespec.program import Impl
from moespec_numba._kernel import BLOCK, OPS, empty, kernel, read, zeros
from moespec_numba.gates._gather import take_row, untake_row
from moespec_numba.gates._order import choose, selection
from moespec_numba.gates._renormalize import typed, unweigh_row, weigh_row
from moespec_numba.gates._selected_softmax import selected_softmax_row
from moespec_numba.gates._softmax import through_softmax_row


class Saved(NamedTuple):
    shares: np.ndarray      # T K, the softmax over the selected logits
    indices: np.ndarray     # T K
    how: tuple              # norm, eps, scale
    experts: int


def forward(logits, indices=None, *, k=None):
    OPS["gates.topk_softmax"].admit(logits, indices, k=k)
    return routed(logits, indices, k)


def routed(logits, indices, k, norm="none", eps=0.0, scale=1.0):
    """((ids, weights), saved) of logits that were admitted."""
    ids, given = selection(indices, len(logits), k)
    shares, weights = empty(ids.shape, logits.dtype), empty(ids.shape, logits.dtype)
    how = typed(norm, eps, scale, logits.dtype)
    _forward(read(logits), given, *how, ids, shares, weights)
    return (ids, weights), Saved(shares, read(ids), how, logits.shape[1])


def backward(saved, dweights):
    dlogits = zeros((len(dweights), saved.experts), dweights.dtype)
    _backward(read(saved.shares), saved.indices, *saved.how, read(dweights), dlogits)
    return dlogits


@kernel(parallel=True)
def _forward(logits, given, norm, eps, scale, ids, shares, weights):
    tokens, k = ids.shape
    for block in prange((tokens + BLOCK - 1) // BLOCK):
        room = np.empty(k, logits.dtype)
        for t in range(block * BLOCK, min(tokens, (block + 1) * BLOCK)):
            if not given:
                choose(logits[t], ids[t], room)
            take_row(logits[t], ids[t], -np.inf, room)
            selected_softmax_row(room, ids[t], shares[t])
            weigh_row(shares[t], ids[t], norm, eps, scale, weights[t])


@kernel(parallel=True)
def _backward(shares, ids, norm, eps, scale, dweights, dlogits):
    tokens, k = ids.shape
    for block in prange((tokens + BLOCK - 1) // BLOCK):
        d = np.empty(k, shares.dtype)
        for t in range(block * BLOCK, min(tokens, (block + 1) * BLOCK)):
            unweigh_row(shares[t], ids[t], norm, eps, scale, dweights[t], d)
            through_softmax_row(shares[t], d, d)
            untake_row(d, ids[t], dlogits[t])


IMPL = Impl(forward, backward)
