"""gates.softmax, and the row forms that other gates share."""

from typing import NamedTuple

import numpy as np
from numba import prange

from moespec.program import Impl
from moespec_numba._exp import exp_down
from moespec_numba._kernel import OPS, empty, kernel, read
from moespec_numba._vector import inner, total


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


@kernel(entry=False)
def softmax_row(logits, probs):
    """One token; a NaN anywhere, and +inf, reach the sum and so make the whole row NaN."""
    top = logits.dtype.type(-np.inf)
    for e in range(len(logits)):
        top = logits[e] if logits[e] > top else top
    for e in range(len(logits)):
        probs[e] = exp_down(logits[e] - top)
    whole = total(probs)
    for e in range(len(logits)):
        probs[e] /= whole


@kernel(entry=False)
def through_softmax_row(probs, dprobs, dlogits):
    """dl = p (dp - <p, dp>)."""
    along = inner(probs, dprobs)
    for e in range(len(probs)):
        dlogits[e] = probs[e] * (dprobs[e] - along)


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
