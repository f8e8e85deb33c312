"""gates.softmax, and the row forms that other gates share."""

from typing import NamedTuple

import numpy as np
from numba import prange

from moespec.program import Impl
from moespec_numba._exp import exp_down
from moespec_numba._kernel import OPS, REORDER, empty, kernel, read


class Saved(NamedTuple):
    probs: np.ndarray       # T E


def forward(logits):
    OPS["gates.softmax"].admit(logits)
    probs = empty(logits.shape, logits.dtype)
    softmax_rows(read(logits), probs)
    return probs, Saved(probs)


def backward(saved, dprobs):
    dlogits = empty(saved.probs.shape, saved.probs.dtype)
    _backward(read(saved.probs), read(dprobs), dlogits)
    return dlogits


@kernel(fastmath=REORDER, entry=False)
def softmax_row(logits, probs):
    """One token; a NaN anywhere, and +inf, reach the sum and so make the whole row NaN."""
    top, total = logits.dtype.type(-np.inf), logits.dtype.type(0)
    for e in range(len(logits)):
        top = logits[e] if logits[e] > top else top
    for e in range(len(logits)):
        probs[e] = exp_down(logits[e] - top)
    for e in range(len(logits)):                          # apart: a loop that also writes has two versions, chosen by address
        total += probs[e]
    for e in range(len(logits)):
        probs[e] /= total


@kernel(fastmath=REORDER, entry=False)
def through_softmax_row(probs, dprobs, dlogits):
    """dl = p (dp - <p, dp>)."""
    inner = probs.dtype.type(0)
    for e in range(len(probs)):
        inner += probs[e] * dprobs[e]
    for e in range(len(probs)):
        dlogits[e] = probs[e] * (dprobs[e] - inner)


@kernel(parallel=True)
def softmax_rows(logits, probs):
    """Every token."""
    for t in prange(len(logits)):
        softmax_row(logits[t], probs[t])


@kernel(parallel=True)
def _backward(probs, dprobs, dlogits):
    for t in prange(len(probs)):
        through_softmax_row(probs[t], dprobs[t], dlogits[t])


IMPL = Impl(forward, backward)
