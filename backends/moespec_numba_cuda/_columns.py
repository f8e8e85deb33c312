"""Sums of columns, over the tokens: of chunks first, then of their sums; both in a fixed order."""

from __future__ import annotations

from moespec_numba_cuda._arrays import empty
from moespec_numba_cuda._chunks import chunks_of
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel


def sum_columns(x):
    """[D] of [N, D]."""
    sums, parts = empty(x.shape[1], x.dtype), _parts(x)
    _sum_chunks(items(parts.size), x, parts)
    _sum_parts(items(len(sums)), parts, sums)
    return sums


def inner_columns(x, y):
    """[D]: the inner products of the columns of two [N, D]."""
    sums, parts = empty(x.shape[1], x.dtype), _parts(x)
    _inner_chunks(items(parts.size), x, y, parts)
    _sum_parts(items(len(sums)), parts, sums)
    return sums


def _parts(x):
    return empty((chunks_of(len(x)), x.shape[1]), x.dtype)


@kernel("T2 T2")
def _sum_chunks(x, parts):
    rows, (chunks, width), zero = len(x), parts.shape, x.dtype.type(0)
    for i in range(cuda.grid(1), chunks * width, cuda.gridsize(1)):
        c, d = i // width, i % width
        total = zero
        for n in range(c * rows // chunks, (c + 1) * rows // chunks):
            total += x[n, d]
        parts[c, d] = total


@kernel("T2 T2 T2")
def _inner_chunks(x, y, parts):
    rows, (chunks, width), zero = len(x), parts.shape, x.dtype.type(0)
    for i in range(cuda.grid(1), chunks * width, cuda.gridsize(1)):
        c, d = i // width, i % width
        total = zero
        for n in range(c * rows // chunks, (c + 1) * rows // chunks):
            total += x[n, d] * y[n, d]
        parts[c, d] = total


@kernel("T2 T1")
def _sum_parts(parts, sums):
    chunks, zero = len(parts), parts.dtype.type(0)
    for d in range(cuda.grid(1), len(sums), cuda.gridsize(1)):
        total = zero
        for c in range(chunks):
            total += parts[c, d]
        sums[d] = total
