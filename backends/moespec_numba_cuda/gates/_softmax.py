"""gates.softmax, and the row forms that other gates share."""

from __future__ import annotations

import numpy as np

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import empty, like, read
from moespec_numba_cuda._device import cuda, device
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda._math import exp
from moespec_numba_cuda._rows import inner, total


def forward(logits):
    admit("gates.softmax", logits)
    probs = softmax_rows(read(logits))
    return like(logits, probs), (logits, probs)


def backward(saved, dprobs):
    logits, probs = saved
    return like(logits, through_softmax_rows(probs, read(dprobs, probs.dtype)))


def softmax_rows(x):
    """[T, E], not rounded."""
    probs = empty(x.shape, x.dtype)
    _softmax(items(len(x)), x, probs)
    return probs


def through_softmax_rows(probs, dprobs):
    """[T, E], not rounded."""
    dlogits = empty(probs.shape, probs.dtype)
    _through(items(len(probs)), probs, dprobs, dlogits)
    return dlogits


@device
def softmax_row(logits, probs):
    """One token; a NaN anywhere, and +inf, reach the sum and so make the whole row NaN."""
    top = logits.dtype.type(-np.inf)
    for e in range(len(logits)):
        if logits[e] > top:
            top = logits[e]
    for e in range(len(logits)):
        probs[e] = exp(logits[e] - top)
    whole = total(probs)
    for e in range(len(logits)):
        probs[e] /= whole


@device
def through_softmax_row(probs, dprobs, dlogits):
    """dl = p (dp - <p, dp>)."""
    along = inner(probs, dprobs)
    for e in range(len(probs)):
        dlogits[e] = probs[e] * (dprobs[e] - along)


@kernel("T2 T2")
def _softmax(logits, probs):
    for t in range(cuda.grid(1), logits.shape[0], cuda.gridsize(1)):
        softmax_row(logits[t], probs[t])


@kernel("T2 T2 T2")
def _through(probs, dprobs, dlogits):
    for t in range(cuda.grid(1), probs.shape[0], cuda.gridsize(1)):
        through_softmax_row(probs[t], dprobs[t], dlogits[t])


IMPL = Impl(forward, backward)
