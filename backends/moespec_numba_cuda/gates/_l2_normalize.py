"""gates.l2_normalize."""

from __future__ import annotations

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import common, empty, flat, like, read
from moespec_numba_cuda._columns import inner_columns, sum_columns
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda._math import sqrt
from moespec_numba_cuda._rows import inner


class Saved(NamedTuple):
    x: Any                  # N D   as it came
    scale: Any              # (), or None
    squares: Any            # N or D: of the lengths, in the accumulation dtype
    axis: int
    eps: float


def forward(x, scale=None, *, axis=1, eps=1e-6):
    admit("gates.l2_normalize", x, scale, axis=axis, eps=eps)
    wide, by = _typed(x, scale)
    squares, y = _inner(wide, wide, axis), empty(x.shape, wide.dtype)
    _normalize(items(y.size), wide, by, squares, axis, eps, y)
    return like(x, y), Saved(x, scale, squares, axis, eps)


def backward(saved, dy):
    x, scale, squares, axis, eps = saved
    wide, by = _typed(x, scale)
    d, dx = read(dy, wide.dtype), empty(x.shape, wide.dtype)
    along, shares = _inner(wide, d, axis), empty((len(squares), 1), wide.dtype)
    _backward(items(dx.size), wide, by, squares, axis, eps, d, along, dx)
    if scale is None:
        return like(x, dx), None
    _to_scale(items(len(squares)), squares, along, eps, flat(shares))
    return like(x, dx), like(scale, sum_columns(shares).reshape(()))


def _typed(x, scale):
    """Both in one dtype, the scale as one number or none."""
    wide, by = common(x, scale)
    return wide, empty(0, wide.dtype) if by is None else flat(by)


def _inner(a, b, axis):
    """The inner products of rows, or of columns."""
    if axis == 0:
        return inner_columns(a, b)
    found = empty(len(a), a.dtype)
    _inner_rows(items(len(a)), a, b, found)
    return found


@kernel("T2 T2 T1")
def _inner_rows(a, b, found):
    for n in range(cuda.grid(1), len(a), cuda.gridsize(1)):
        found[n] = inner(a[n], b[n])


@kernel("T2 T1 T1 i T T2")
def _normalize(x, scale, squares, axis, eps, y):
    (rows, width), by = x.shape, scale[0] if len(scale) > 0 else x.dtype.type(1)
    for i in range(cuda.grid(1), rows * width, cuda.gridsize(1)):
        n, d = i // width, i % width
        y[n, d] = by * (x[n, d] / (sqrt(squares[n if axis == 1 else d]) + eps))


@kernel("T2 T1 T1 i T T2 T1 T2")
def _backward(x, scale, squares, axis, eps, dy, along, dx):
    """At x = 0 nothing is taken off: the map is linear there."""
    (rows, width), by, zero = x.shape, scale[0] if len(scale) > 0 else x.dtype.type(1), x.dtype.type(0)
    for i in range(cuda.grid(1), rows * width, cuda.gridsize(1)):
        n, d = i // width, i % width
        line = n if axis == 1 else d
        norm = sqrt(squares[line])
        unit = norm + eps
        growth = along[line] / (norm * unit) if norm * unit != 0 else zero
        dx[n, d] = by * ((dy[n, d] - x[n, d] * growth) / unit)


@kernel("T1 T1 T T1")
def _to_scale(squares, along, eps, shares):
    for n in range(cuda.grid(1), len(squares), cuda.gridsize(1)):
        shares[n] = along[n] / (sqrt(squares[n]) + eps)


IMPL = Impl(forward, backward)
