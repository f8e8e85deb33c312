"""gates.scale_weights."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import common, empty, flat, like
from moespec_numba_cuda._columns import inner_columns
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel


def forward(weights, scale):
    admit("gates.scale_weights", weights, scale)
    w, g = common(weights, scale)
    return like(weights, _scaled(w, g)), (weights, scale)


def backward(saved, dscaled):
    weights, scale = saved
    w, g, d = common(weights, scale, dscaled)
    along = inner_columns(w.reshape((w.size, 1)), d.reshape((w.size, 1)))
    return like(weights, _scaled(d, g)), like(scale, along.reshape(scale.shape))


def _scaled(values, scale):
    scaled = empty(values.shape, values.dtype)
    _scale(items(values.size), flat(values), flat(scale), flat(scaled))
    return scaled


@kernel("T1 T1 T1")
def _scale(values, scale, scaled):
    for i in range(cuda.grid(1), len(values), cuda.gridsize(1)):
        scaled[i] = scale[0] * values[i]


IMPL = Impl(forward, backward)
