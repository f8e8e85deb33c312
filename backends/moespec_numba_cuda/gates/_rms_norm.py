"""gates.rms_norm: one block a row."""

from __future__ import annotations

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import common, convert, empty, like
from moespec_numba_cuda._columns import sum_columns
from moespec_numba_cuda._device import cuda, device
from moespec_numba_cuda._kernel import THREADS, blocks, kernel
from moespec_numba_cuda._math import sqrt
from moespec_numba_cuda._rows import total


class Saved(NamedTuple):
    x: Any                  # T D
    scale: Any              # D, or None
    inverse: Any            # T     1 / rms
    how: tuple              # factor, offset, before


def forward(x, scale=None, *, eps=1e-6, factor=1.0, offset=0.0, before=False):
    admit("gates.rms_norm", x, scale, eps=eps, factor=factor, offset=offset, before=before)
    wide, stored = common(x, scale)
    gain, how = _stored_or_none(stored, wide.dtype), (factor, offset, before)
    inverse, y = empty(len(wide), wide.dtype), empty(wide.shape, wide.dtype)
    _norm(blocks(len(wide)), wide, gain, eps, *how, inverse, y)
    return like(x, y), Saved(x, scale, inverse, how)


def backward(saved, dy):
    x, scale, inverse, how = saved
    wide, stored, d = common(x, scale, dy)
    gain = _stored_or_none(stored, wide.dtype)
    dx, terms = empty(wide.shape, wide.dtype), empty((0, 0) if scale is None else wide.shape, wide.dtype)
    _through(blocks(len(wide)), wide, gain, convert(inverse, wide.dtype), d, *how, dx, terms)
    return like(x, dx), None if scale is None else like(scale, sum_columns(terms))


def _stored_or_none(scale, dtype):
    return empty(0, dtype) if scale is None else scale


@device
def gain_at(scale, d, offset):
    """What a feature is multiplied by; without a scale 1."""
    return scale[d] + offset if len(scale) > 0 else scale.dtype.type(1)


@kernel("T2 T1 T T T b T1 T2")
def _norm(x, scale, eps, factor, offset, before, inverse, y):
    part = cuda.shared.array(THREADS, x.dtype)
    width, one = x.shape[1], x.dtype.type(1)
    for t in range(cuda.blockIdx.x, len(x), cuda.gridDim.x):
        mine = x.dtype.type(0)
        for d in range(cuda.threadIdx.x, width, THREADS):
            z = x[t, d] * gain_at(scale, d, offset) if before else x[t, d]
            mine += z * z
        part[cuda.threadIdx.x] = mine
        cuda.syncthreads()
        r = one / sqrt(total(part) / x.dtype.type(width) + eps)
        for d in range(cuda.threadIdx.x, width, THREADS):
            y[t, d] = x[t, d] * gain_at(scale, d, offset) * r * factor
        if cuda.threadIdx.x == 0:
            inverse[t] = r
        cuda.syncthreads()


@kernel("T2 T1 T1 T2 T T b T2 T2")
def _through(x, scale, inverse, dy, factor, offset, before, dx, terms):
    """With z what was divided and u the cotangent of the normalised row: dz = r (u - z r^2 mean(u z)).  `terms` add up to the scale's."""
    part = cuda.shared.array(THREADS, x.dtype)
    width = x.shape[1]
    for t in range(cuda.blockIdx.x, len(x), cuda.gridDim.x):
        mine, r = x.dtype.type(0), inverse[t]
        for d in range(cuda.threadIdx.x, width, THREADS):
            mine += dy[t, d] * factor * gain_at(scale, d, offset) * x[t, d]                     # u z, either way
        part[cuda.threadIdx.x] = mine
        cuda.syncthreads()
        along = r * r * (total(part) / x.dtype.type(width))
        for d in range(cuda.threadIdx.x, width, THREADS):
            g, u = gain_at(scale, d, offset), dy[t, d] * factor
            dz = r * (u - x[t, d] * g * along) if before else r * (u * g - x[t, d] * along)
            dx[t, d] = dz * g if before else dz
            if len(terms) > 0:
                terms[t, d] = dz * x[t, d] if before else u * x[t, d] * r
        cuda.syncthreads()


IMPL = Impl(forward, backward)
