"""gates.softmax_topk: the router that scores all experts, in one pass over the tokens."""

from typing import NamedTuple

import numpy as np
from numba import prange

from moespec.program import Impl
from moespec_numba._kernel import BLOCK, OPS, empty, kernel, read, zeros
from moespec_numba.gates._gather import take_row, untake_row
from moespec_numba.gates._order import choose, selection
from moespec_numba.gates._renormalize import typed, unweigh_row, weigh_row
from moespec_numba.gates._scores import KINDS, score_row, through_score_row


class Saved(NamedTuple):
    logits: np.ndarray      # T E
    kind: int               # of score
    probs: np.ndarray       # T E
    indices: np.ndarray     # T K
    how: tuple              # norm, eps, scale


def forward(logits, indices=None, *, k=None, norm="none", eps=0.0, scale=1.0):
    OPS["gates.softmax_topk"].admit(logits, indices, k=k, norm=norm, eps=eps, scale=scale)
    return routed(logits, indices, k, norm, eps, scale)


def routed(logits, indices, k, norm="none", eps=0.0, scale=1.0, score="softmax"):
    """((ids, weights), saved) of logits that were admitted."""
    ids, given = selection(indices, len(logits), k)
    probs, weights = empty(logits.shape, logits.dtype), empty(ids.shape, logits.dtype)
    how = typed(norm, eps, scale, logits.dtype)
    wide, kind = read(logits), KINDS[score]
    (_forward if len(ids) > BLOCK else route_block)(wide, kind, given, *how, ids, probs, weights)
    return (ids, weights), Saved(wide, kind, read(probs), read(ids), how)


def backward(saved, dweights):
    dlogits = zeros(saved.probs.shape, saved.probs.dtype)
    _backward(*saved[:4], *saved.how, read(dweights, saved.probs.dtype), dlogits)
    return dlogits


@kernel(parallel=True)
def _forward(logits, kind, given, norm, eps, scale, ids, probs, weights):
    tokens = len(ids)
    for block in prange((tokens + BLOCK - 1) // BLOCK):
        of = slice(block * BLOCK, min(tokens, (block + 1) * BLOCK))
        route_block(logits[of], kind, given, norm, eps, scale, ids[of], probs[of], weights[of])


@kernel
def route_block(logits, kind, given, norm, eps, scale, ids, probs, weights):
    """The tokens of one block; alone it wakes no other thread."""
    room = np.empty(ids.shape[1], logits.dtype)
    for t in range(len(ids)):
        score_row(logits[t], kind, probs[t])
        if not given:
            choose(probs[t], ids[t], room)
        take_row(probs[t], ids[t], 0, room)
        weigh_row(room, ids[t], norm, eps, scale, weights[t])


@kernel(parallel=True)
def _backward(logits, kind, probs, ids, norm, eps, scale, dweights, dlogits):
    tokens, k = ids.shape
    for block in prange((tokens + BLOCK - 1) // BLOCK):
        chosen, d = np.empty(k, probs.dtype), np.empty(k, probs.dtype)
        for t in range(block * BLOCK, min(tokens, (block + 1) * BLOCK)):
            take_row(probs[t], ids[t], 0, chosen)
            unweigh_row(chosen, ids[t], norm, eps, scale, dweights[t], d)
            untake_row(d, ids[t], dlogits[t])
            through_score_row(logits[t], probs[t], kind, dlogits[t], dlogits[t])


IMPL = Impl(forward, backward)
