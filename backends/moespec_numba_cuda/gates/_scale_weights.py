"""gates.scale_weights."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import common, empty, flat, like
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda.gates._columns import column_sums


def forward(weights, scale):
    admit("gates.scale_weights", weights, scale)
    w, g = common(weights, scale)
    scaled = empty(w.shape, w.dtype)
    _scale(items(w.size), flat(w), flat(g), flat(scaled))
    return like(weights, scaled), (weights, scale)


def backward(saved, dscaled):
    weights, scale = saved
    w, g, d = common(weights, scale, dscaled)
    dweights, terms = empty(w.shape, w.dtype), empty((w.size, 1), w.dtype)
    _back(items(w.size), flat(w), flat(g), flat(d), flat(dweights), flat(terms))
    return like(weights, dweights), like(scale, column_sums(terms).reshape(scale.shape))


@kernel("T1 T1 T1")
def _scale(weights, scale, scaled):
    for i in range(cuda.grid(1), len(weights), cuda.gridsize(1)):
        scaled[i] = scale[0] * weights[i]


@kernel("T1 T1 T1 T1 T1")
def _back(weights, scale, dscaled, dweights, terms):
    """`terms` add up to the gradient of the scale."""
    for i in range(cuda.grid(1), len(weights), cuda.gridsize(1)):
        dweights[i] = scale[0] * dscaled[i]
        terms[i] = weights[i] * dscaled[i]


IMPL = Impl(forward, backward)
