"""gates.scale_weights."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read
from moespec_numba._vector import inner, scale


class Saved(NamedTuple):
    weights: np.ndarray     # T K
    scale: np.ndarray       # ()
    dtypes: tuple


def forward(weights, scale):
    OPS["gates.scale_weights"].admit(weights, scale)
    dtype = np.result_type(weights, scale)
    saved = Saved(read(weights, dtype), dtype.type(scale), (weights.dtype, scale.dtype))
    scaled = empty(weights.shape, weights.dtype)
    flat = saved.weights.reshape(-1)
    _scale(flat, flat, saved.scale, scaled.reshape(-1))
    return scaled, saved


def backward(saved, dscaled):
    dweights = empty(dscaled.shape, saved.dtypes[0])
    along = _scale(read(dscaled, saved.weights.dtype).reshape(-1), saved.weights.reshape(-1), saved.scale, dweights.reshape(-1))
    return dweights, np.asarray(along, saved.dtypes[1])


@kernel
def _scale(values, weights, factor, scaled):
    """scaled = factor * values; returns the sum of values * weights."""
    scale(scaled, factor, values)
    return inner(values, weights)


IMPL = Impl(forward, backward)
