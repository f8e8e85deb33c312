"""losses.load_balance."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read, zeros
from moespec_numba._vector import clear, copy
from moespec_numba.losses._scalar import rounded, valid


class Saved(NamedTuple):
    fraction: np.ndarray    # E   share of the assignments
    mask: np.ndarray        # T
    counted: int
    dtype: np.dtype


def forward(probs, indices, mask=None, *, choices=None):
    dims = OPS["losses.load_balance"].admit(probs, indices, mask, choices=choices)
    choices = dims.K if choices is None else choices
    mask, counted = valid(mask, dims.T)
    fraction, mean = zeros(dims.E, "float64"), zeros(dims.E, "float64")
    _sums(read(probs), read(indices, "int64"), mask, choices, fraction, mean)
    fraction /= max(counted * choices, 1)
    loss = dims.E * (fraction * (mean / counted)).sum()
    return rounded(loss, probs.dtype), Saved(fraction, mask, counted, probs.dtype)


def backward(saved, dloss):
    dprobs = empty((len(saved.mask), len(saved.fraction)), saved.dtype)
    slope = len(saved.fraction) * float(dloss) / saved.counted * saved.fraction
    _backward(saved.mask, read(slope, saved.dtype), dprobs)
    return dprobs


@kernel
def _sums(probs, ids, mask, choices, counts, totals):
    """Assignments and probabilities of every expert, over the valid tokens."""
    for t in range(len(probs)):
        if mask[t]:
            for j in range(choices):
                if ids[t, j] >= 0:
                    counts[ids[t, j]] += 1
            for e in range(len(totals)):
                totals[e] += probs[t, e]


@kernel
def _backward(mask, slope, dprobs):
    for t in range(len(mask)):
        if mask[t]:
            copy(dprobs[t], slope)
        else:
            clear(dprobs[t])


IMPL = Impl(forward, backward)
