"""losses.router_entropy."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import empty, like, read
from moespec_numba_cuda._device import cuda, device
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda._math import exp
from moespec_numba_cuda.gates._softmax import softmax_row
from moespec_numba_cuda.losses._lse import lse_row
from moespec_numba_cuda.losses._mean import cotangent, count_valid, counts, masked, mean, per_token


class Saved(NamedTuple):
    logits: Any             # T E
    probs: Any              # T E   what follows is of the tokens that count
    lse: Any                # T
    entropy: Any            # T
    mask: Any               # T, or empty
    counted: Any            # 1


def forward(logits, mask=None):
    admit("losses.router_entropy", logits, mask)
    x, mask = read(logits), masked(mask)
    probs, lse, entropy, counted = empty(x.shape, x.dtype), empty(len(x), x.dtype), empty(len(x), x.dtype), count_valid(mask, len(x))
    _entropy(items(len(x)), x, mask, probs, lse, entropy)
    return mean(entropy, mask, counted, x.dtype), Saved(logits, probs, lse, entropy, mask, counted)


def backward(saved, dloss):
    x = read(saved.logits)
    dlogits = empty(x.shape, x.dtype)
    _backward(items(x.size), x, *saved[1:], cotangent(dloss, x.dtype), dlogits)
    return like(saved.logits, dlogits)


@device
def _log(logit, lse):
    """The log of a probability; 0, of this type, where the logit is -inf."""
    return exp(logit) if logit == -np.inf else logit - lse


@kernel("T2 b1 T2 T1 T1")
def _entropy(logits, mask, probs, lse, entropy):
    for t in range(cuda.grid(1), logits.shape[0], cuda.gridsize(1)):
        if counts(mask, t):
            softmax_row(logits[t], probs[t])
            lse[t] = lse_row(logits[t])
            total = logits.dtype.type(0)
            for e in range(logits.shape[1]):
                total -= probs[t, e] * _log(logits[t, e], lse[t])
            entropy[t] = total


@kernel("T2 T2 T1 T1 b1 d1 T1 T2")
def _backward(logits, probs, lse, entropy, mask, counted, dloss, dlogits):
    share, width = per_token(-1.0, dloss, counted), logits.shape[1]
    for i in range(cuda.grid(1), logits.shape[0] * width, cuda.gridsize(1)):
        t, e = i // width, i % width
        if counts(mask, t):
            dlogits[t, e] = share * probs[t, e] * (_log(logits[t, e], lse[t]) + entropy[t])
        else:
            dlogits[t, e] = 0


IMPL = Impl(forward, backward)
