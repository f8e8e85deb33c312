"""gates.gshard."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read, zeros
from moespec_numba.gates._accept import factor, kept_row
from moespec_numba.gates._gather import take_row, untake_row
from moespec_numba.gates._order import choose, selection
from moespec_numba.gates._softmax import softmax_row, through_softmax_row


class Saved(NamedTuple):
    probs: np.ndarray       # T E
    pair: np.ndarray        # T 2   both candidates, also a rejected one
    shares: np.ndarray      # T 2   normalised, before the decision
    total: np.ndarray       # T
    kept: np.ndarray        # T 2
    dtype: np.dtype


def forward(logits, uniform, indices=None, *, rule="gshard", threshold=0.2):
    OPS["gates.gshard"].admit(logits, uniform, indices, rule=rule, threshold=threshold)
    tokens, dtype = len(logits), np.result_type(logits, uniform)
    given, use_given = selection(indices, tokens, 2)
    saved = Saved(empty(logits.shape, dtype), empty((tokens, 2), "int64"), empty((tokens, 2), dtype), empty(tokens, dtype),
                  empty((tokens, 2), "int64"), logits.dtype)
    weights = empty((tokens, 2), logits.dtype)
    _forward(read(logits, dtype), read(uniform, dtype), given, use_given, *factor(rule, threshold, dtype), *saved[:5], weights)
    return (saved.kept, weights), saved._replace(kept=read(saved.kept))


def backward(saved, dweights):
    dlogits = zeros(saved.probs.shape, saved.probs.dtype)
    _backward(*map(read, saved[:5]), read(dweights, saved.probs.dtype), dlogits)
    return dlogits.astype(saved.dtype, copy=False)


@kernel
def _forward(logits, uniform, given, use_given, times, by, probs, pair, shares, total, kept, weights):
    room = np.empty(2, probs.dtype)
    for t in range(len(probs)):
        softmax_row(logits[t], probs[t])
        choose(probs[t], pair[t], room)
        if use_given:                         # a rejected second choice is the best of the others
            other = pair[t, 1] if pair[t, 0] == given[t, 0] else pair[t, 0]
            pair[t, 0], pair[t, 1] = given[t, 0], given[t, 1] if given[t, 1] >= 0 else other
        take_row(probs[t], pair[t], 0, room)
        total[t] = room[0] + room[1]
        shares[t, 0], shares[t, 1] = room[0] / total[t], room[1] / total[t]
        kept_row(pair[t], shares[t, 1], uniform[t], given[t], use_given, times, by, kept[t])
        for j in range(2):
            weights[t, j] = shares[t, j] if kept[t, j] >= 0 else 0


@kernel
def _backward(probs, pair, shares, total, kept, dweights, dlogits):
    zero, d = probs.dtype.type(0), np.empty(2, probs.dtype)
    for t in range(len(probs)):
        first, second = dweights[t, 0] if kept[t, 0] >= 0 else zero, dweights[t, 1] if kept[t, 1] >= 0 else zero
        through = first * shares[t, 0] + second * shares[t, 1]
        d[0], d[1] = (first - through) / total[t], (second - through) / total[t]
        untake_row(d, pair[t], dlogits[t])
        through_softmax_row(probs[t], dlogits[t], dlogits[t])


IMPL = Impl(forward, backward)
