"""losses.z_loss."""

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
    lse: np.ndarray         # T   of the valid tokens
    mask: np.ndarray        # T
    counted: int


def forward(logits, mask=None):
    dims = OPS["losses.z_loss"].admit(logits, mask)
    saved = Saved(read(logits), empty(dims.T, logits.dtype), *valid(mask, dims.T))
    return rounded(_z_loss(saved.logits, saved.mask, saved.lse) / saved.counted, logits.dtype), saved


def backward(saved, dloss):
    dlogits = empty(saved.logits.shape, saved.logits.dtype)
    _backward(saved.logits, read(saved.lse), saved.mask, rounded(2.0 * float(dloss) / saved.counted, dlogits.dtype), dlogits)
    return dlogits


@kernel
def _z_loss(logits, mask, lse):
    total = np.float64(0)
    for t in range(len(logits)):
        if mask[t]:
            lse[t] = lse_row(logits[t])
            total += np.float64(lse[t]) * np.float64(lse[t])
    return total


@kernel
def _backward(logits, lse, mask, scale, dlogits):
    for t in range(len(logits)):
        if mask[t]:
            softmax_row(logits[t], dlogits[t])
            for e in range(logits.shape[1]):
                dlogits[t, e] *= scale * lse[t]
        else:
            clear(dlogits[t])


IMPL = Impl(forward, backward)
