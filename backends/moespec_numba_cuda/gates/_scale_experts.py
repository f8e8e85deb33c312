"""gates.scale_experts."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import common, empty, flat, like, read, zeros
from moespec_numba_cuda._chunks import chunks_of
from moespec_numba_cuda._columns import sum_columns
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda._rows import legal


def forward(weights, indices, scale):
    admit("gates.scale_experts", weights, indices, scale)
    w, g = common(weights, scale)
    return like(weights, _scaled(w, read(indices, "int64"), g)), (weights, indices, scale)


def backward(saved, dscaled):
    weights, indices, scale = saved
    (w, g, d), ids = common(weights, scale, dscaled), read(indices, "int64")
    parts = zeros((chunks_of(w.size // max(len(g), 1)), len(g)), w.dtype)       # the table is never larger than the weights
    _to_scale(items(len(parts)), flat(w), flat(ids), flat(d), parts)
    return like(weights, _scaled(d, ids, g)), like(scale, sum_columns(parts))


def _scaled(values, ids, scale):
    scaled = empty(values.shape, values.dtype)
    _scale(items(values.size), flat(values), flat(ids), scale, flat(scaled))
    return scaled


@kernel("T1 i1 T1 T1")
def _scale(values, ids, scale, scaled):
    for i in range(cuda.grid(1), len(values), cuda.gridsize(1)):
        e = legal(ids[i], len(scale))
        scaled[i] = values[i] * scale[e] if e >= 0 else 0


@kernel("T1 i1 T1 T2")
def _to_scale(weights, ids, dscaled, parts):
    """What every expert's scale gets from a chunk of the choices."""
    chunks, experts = parts.shape
    for c in range(cuda.grid(1), chunks, cuda.gridsize(1)):
        for i in range(c * len(ids) // chunks, (c + 1) * len(ids) // chunks):
            if 0 <= ids[i] < experts:
                parts[c, ids[i]] += weights[i] * dscaled[i]


IMPL = Impl(forward, backward)
