"""gates.mix_in."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import common, empty, like, read
from moespec_numba_cuda._columns import inner_columns
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel


def forward(h, previous, scale):
    admit("gates.mix_in", h, previous, scale)
    x, q, g = common(h, previous, scale)
    mixed = empty(x.shape, x.dtype)
    _mix(items(x.size), x, q, g, mixed)
    return like(h, mixed), (previous, scale, h.dtype)


def backward(saved, dmixed):
    previous, scale, dtype = saved
    q, g, d = common(previous, scale, dmixed)
    dprevious = empty(q.shape, q.dtype)
    _scale(items(q.size), g, d, dprevious)
    return read(dmixed, dtype), like(previous, dprevious), like(scale, inner_columns(q, d))


@kernel("T2 T2 T1 T2")
def _mix(h, previous, scale, mixed):
    width = len(scale)
    for i in range(cuda.grid(1), len(h) * width, cuda.gridsize(1)):
        t, d = i // width, i % width
        mixed[t, d] = h[t, d] + previous[t, d] * scale[d]


@kernel("T1 T2 T2")
def _scale(scale, dmixed, dprevious):
    width = len(scale)
    for i in range(cuda.grid(1), len(dmixed) * width, cuda.gridsize(1)):
        t, d = i // width, i % width
        dprevious[t, d] = scale[d] * dmixed[t, d]


IMPL = Impl(forward, backward)
