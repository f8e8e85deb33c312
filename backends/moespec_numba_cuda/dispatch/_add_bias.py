"""dispatch.add_bias."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import common, convert, empty, read
from moespec_numba_cuda._columns import sum_columns
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel


def forward(x, b):
    admit("dispatch.add_bias", x, b)
    a, c = common(x, b)
    y = empty(a.shape, a.dtype)
    _add_bias(items(y.size), a, c, y)
    return convert(y, x.dtype), (x.dtype, b.dtype)


def backward(saved, dy):
    rows, bias = saved
    return convert(read(dy), rows), convert(sum_columns(read(dy)), bias)


@kernel("T2 T1 T2")
def _add_bias(x, b, y):
    width = len(b)
    for i in range(cuda.grid(1), x.shape[0] * width, cuda.gridsize(1)):
        y[i // width, i % width] = x[i // width, i % width] + b[i % width]


IMPL = Impl(forward, backward)
