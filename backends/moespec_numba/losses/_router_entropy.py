"""losses.router_entropy."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read
from moespec_numba._vector import clear
from moespec_numba.gates._softmax import softmax_row
from moespec_numba.losses._lse import lse_row
from moespec_numba.losses._scalar import rounded, valid


class Saved(NamedTuple):
    logits: np.ndarray      # T E
    mask: np.ndarray        # T
    counted: int


def forward(logits, mask=None):
    dims = OPS["losses.router_entropy"].admit(logits, mask)
    saved = Saved(read(logits), *valid(mask, dims.T))
    return rounded(_entropies(saved.logits, saved.mask, empty(dims.E, logits.dtype)) / saved.counted, logits.dtype), saved


def backward(saved, dloss):
    dlogits = empty(saved.logits.shape, saved.logits.dtype)
    _backward(saved.logits, saved.mask, rounded(-float(dloss) / saved.counted, dlogits.dtype), dlogits)
    return dlogits


@kernel(entry=False)
def _entropy(logits, probs):
    """(entropy, log-sum-exp) of a token; `probs` receives its softmax."""
    softmax_row(logits, probs)
    norm, entropy = lse_row(logits), probs.dtype.type(0)
    for e in range(len(probs)):
        entropy -= probs[e] * _log(logits[e], norm)
    return entropy, norm


@kernel(inline="always")
def _log(logit, norm):
    """The log of a probability; 0 where it is 0 because its logit is -inf."""
    return type(norm)(0) if logit == -np.inf else logit - norm


@kernel
def _entropies(logits, mask, probs):
    total = np.float64(0)
    for t in range(len(logits)):
        if mask[t]:
            total += _entropy(logits[t], probs)[0]
    return total


@kernel
def _backward(logits, mask, scale, dlogits):
    for t in range(len(logits)):
        if mask[t]:
            entropy, norm = _entropy(logits[t], dlogits[t])
            for e in range(logits.shape[1]):
                dlogits[t, e] *= scale * (_log(logits[t, e], norm) + entropy)
        else:
            clear(dlogits[t])


IMPL = Impl(forward, backward)
