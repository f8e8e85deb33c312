"""Sums over all rows: of chunks of them first, then of the chunks, in order."""

from __future__ import annotations

from moespec_numba_cuda._arrays import empty
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel

CHUNKS = 256            # at most


def column_sums(x):
    """[D]: the sum of every column of x [N, D]."""
    count, width = x.shape
    partial, total = empty((max(1, min(CHUNKS, count // 32)), width), x.dtype), empty(width, x.dtype)
    _sum_chunks(items(partial.size), x, partial)
    _sum(items(width), partial, total)
    return total


@kernel("T2 T2")
def _sum_chunks(x, partial):
    count, (chunks, width) = x.shape[0], partial.shape
    for i in range(cuda.grid(1), chunks * width, cuda.gridsize(1)):
        c, d = i // width, i % width
        total = x.dtype.type(0)
        for n in range(c * count // chunks, (c + 1) * count // chunks):
            total += x[n, d]
        partial[c, d] = total


@kernel("T2 T1")
def _sum(partial, total):
    for d in range(cuda.grid(1), len(total), cuda.gridsize(1)):
        s = partial.dtype.type(0)
        for c in range(partial.shape[0]):
            s += partial[c, d]
        total[d] = s
