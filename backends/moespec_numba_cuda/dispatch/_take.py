"""Rows by index, both ways, without atomics: adding up is a sort by target and a gather."""

from __future__ import annotations

from moespec_numba_cuda._arrays import empty, flat, read
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda.dispatch._counting_sort import counting_sort


def take_rows(x, index):
    """x[index] for x [N, D], zeros where the index is nobody's; `index` may have any shape."""
    out = empty((index.size, x.shape[1]), x.dtype)
    _take(items(out.size), x, flat(read(index, "int64")), out)
    return out.reshape(*index.shape, x.shape[1])


def add_rows(values, index, n):
    """[n, D]: values[i] [M, D] added into row index[i], in ascending i; who is nobody adds nothing."""
    found = counting_sort(index, n)
    out = empty((n, values.shape[1]), values.dtype)
    _add(items(out.size), values, found.order, found.offsets, out)
    return out


@kernel("T2 i1 T2")
def _take(x, index, out):
    count, width = x.shape
    for i in range(cuda.grid(1), out.shape[0] * width, cuda.gridsize(1)):
        n, d = i // width, i % width
        out[n, d] = x[index[n], d] if 0 <= index[n] < count else 0


@kernel("T2 i1 i1 T2")
def _add(values, order, offsets, out):
    width = out.shape[1]
    for i in range(cuda.grid(1), out.shape[0] * width, cuda.gridsize(1)):
        n, d = i // width, i % width
        total = values.dtype.type(0)
        for at in range(offsets[n], offsets[n + 1]):
            total += values[order[at], d]
        out[n, d] = total
