"""gates.scale_weights."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, REORDER, empty, kernel, read


class Saved(NamedTuple):
    weights: np.ndarray     # T K
    scale: np.ndarray       # ()
    dtypes: tuple


def forward(weights, scale):
    OPS["gates.scale_weights"].admit(weights, scale)
    dtype = np.result_type(weights, scale)
    saved = Saved(read(weights, dtype), dtype.type(scale), (weights.dtype, scale.dtype))
    scaled = empty(weights.shape, weights.dtype)
    _scale(saved.weights, saved.weights, saved.scale, scaled)
    return scaled, saved


def backward(saved, dscaled):
    dweights = empty(dscaled.shape, saved.dtypes[0])
    inner = _scale(read(dscaled, saved.weights.dtype), saved.weights, saved.scale, dweights)
    return dweights, np.asarray(inner, saved.dtypes[1])


@kernel(fastmath=REORDER)
def _scale(values, weights, scale, scaled):
    """scaled = scale * values; returns the sum of values * weights."""
    total = values.dtype.type(0)
    for t in range(len(values)):
        for j in range(values.shape[1]):
            scaled[t, j] = values[t, j] * scale
        for j in range(values.shape[1]):                 # apart: see softmax_row
            total += values[t, j] * weights[t, j]
    return total


IMPL = Impl(forward, backward)
