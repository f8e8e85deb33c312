"""gates.softmax, and the row forms that other gates share."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read


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


@kernel
def softmax_row(logits, probs):
    """One token; NaN anywhere, and +inf, make the whole row NaN."""
    top = logits.dtype.type(-np.inf)
    for e in range(len(logits)):
        if logits[e] > top or logits[e] != logits[e]:
            top = logits[e]
    total = logits.dtype.type(0)
    for e in range(len(logits)):
        probs[e] = np.exp(logits[e] - top)
        total += probs[e]
    for e in range(len(logits)):
        probs[e] /= total


@kernel
def through_softmax_row(probs, dprobs, dlogits):
    """dl = p (dp - <p, dp>)."""
    inner = probs.dtype.type(0)
    for e in range(len(probs)):
        inner += probs[e] * dprobs[e]
    for e in range(len(probs)):
        dlogits[e] = probs[e] * (dprobs[e] - inner)


@kernel
def softmax_rows(logits, probs):
    """Every token."""
    for t in range(len(logits)):
        softmax_row(logits[t], probs[t])


@kernel
def _backward(probs, dprobs, dlogits):
    for t in range(len(probs)):
        through_softmax_row(probs[t], dprobs[t], dlogits[t])


IMPL = Impl(forward, backward)
