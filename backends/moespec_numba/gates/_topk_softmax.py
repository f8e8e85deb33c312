"""gates.topk_softmax, and with a normaliser behind it the router that scores the selected experts alone."""

from typing import NamedTuple

import numpy as np
from numba import prange

from moespec.program import Impl
from moespec_numba._kernel import BLOCK, OPS, empty, kernel, read, zeros
from moespec_numba.gates._gather import take_row, untake_row
from moespec_numba.gates._order import choose, selection
from moespec_numba.gates._renormalize import typed, unweigh_row, weigh_row
from moespec_numba.gates._scores import KINDS, SOFTMAX, SQRT_SOFTPLUS, score_row, through_score_row
from moespec_numba.gates._selected_softmax import selected_softmax_row


class Saved(NamedTuple):
    logits: np.ndarray      # T E
    kind: int               # of score
    shares: np.ndarray      # T K, the scores of the selected logits
    indices: np.ndarray     # T K
    how: tuple              # norm, eps, scale


def forward(logits, indices=None, *, k=None):
    OPS["gates.topk_softmax"].admit(logits, indices, k=k)
    return routed(logits, indices, k)


def routed(logits, indices, k, norm="none", eps=0.0, scale=1.0, score="softmax"):
    """((ids, weights), saved) of logits that were admitted."""
    ids, given = selection(indices, len(logits), k)
    shares, weights = empty(ids.shape, logits.dtype), empty(ids.shape, logits.dtype)
    how = typed(norm, eps, scale, logits.dtype)
    wide, kind = read(logits), KINDS[score]
    (_forward if len(ids) > BLOCK else route_block)(wide, kind, given, *how, ids, shares, weights)
    return (ids, weights), Saved(wide, kind, read(shares), read(ids), how)


def backward(saved, dweights):
    dlogits = zeros(saved.logits.shape, dweights.dtype)
    _backward(*saved[:4], *saved.how, read(dweights), dlogits)
    return dlogits


@kernel(parallel=True)
def _forward(logits, kind, given, norm, eps, scale, ids, shares, weights):
    tokens = len(ids)
    for block in prange((tokens + BLOCK - 1) // BLOCK):
        of = slice(block * BLOCK, min(tokens, (block + 1) * BLOCK))
        route_block(logits[of], kind, given, norm, eps, scale, ids[of], shares[of], weights[of])


@kernel
def route_block(logits, kind, given, norm, eps, scale, ids, shares, weights):
    """The tokens of one block; alone it wakes no other thread."""
    room = np.empty(ids.shape[1], logits.dtype)
    for t in range(len(ids)):
        if not given:
            choose(logits[t], ids[t], room)
        take_row(logits[t], ids[t], -np.inf, room)
        if kind == SOFTMAX:
            selected_softmax_row(room, ids[t], shares[t])
        else:
            score_row(room, kind, shares[t])
        weigh_row(shares[t], ids[t], norm, eps, scale, weights[t])


@kernel(parallel=True)
def _backward(logits, kind, shares, ids, norm, eps, scale, dweights, dlogits):
    tokens, k = ids.shape
    for block in prange((tokens + BLOCK - 1) // BLOCK):
        d, chosen = np.empty(k, shares.dtype), np.empty(k, shares.dtype)
        for t in range(block * BLOCK, min(tokens, (block + 1) * BLOCK)):
            unweigh_row(shares[t], ids[t], norm, eps, scale, dweights[t], d)
            if kind == SQRT_SOFTPLUS:
                take_row(logits[t], ids[t], -np.inf, chosen)
            through_score_row(chosen, shares[t], kind, d, d)
            untake_row(d, ids[t], dlogits[t])


IMPL = Impl(forward, backward)
