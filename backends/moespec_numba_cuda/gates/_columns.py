"""Sums over tokens, in a fixed order: of chunks, and then of the chunks."""

from __future__ import annotations

from moespec_numba_cuda._arrays import empty
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel

CHUNK = 64              # tokens that are worth a thread of their own
CHUNKS = 1024           # at most


def chunks_of(n):
    """Into how many chunks n tokens are divided: c has tokens c n / chunks .. (c + 1) n / chunks - 1."""
    return max(1, min(CHUNKS, n // CHUNK))


def column_sums(terms):
    """[D]: the sums of the columns of `terms` [T, D]."""
    parts = empty((chunks_of(len(terms)), terms.shape[1]), terms.dtype)
    _sum_chunks(items(parts.size), terms, parts)
    return sum_parts(parts)


def sum_parts(parts):
    """[D]: the sums of the columns of a table that has one row a chunk."""
    sums = empty(parts.shape[1], parts.dtype)
    _sum_parts(items(len(sums)), parts, sums)
    return sums


@kernel("T2 T2")
def _sum_chunks(terms, parts):
    tokens, (chunks, width) = len(terms), parts.shape
    for i in range(cuda.grid(1), chunks * width, cuda.gridsize(1)):
        c, d = i // width, i % width
        total = terms.dtype.type(0)
        for t in range(c * tokens // chunks, (c + 1) * tokens // chunks):
            total += terms[t, d]
        parts[c, d] = total


@kernel("T2 T1")
def _sum_parts(parts, sums):
    for d in range(cuda.grid(1), len(sums), cuda.gridsize(1)):
        total = parts.dtype.type(0)
        for c in range(len(parts)):
            total += parts[c, d]
        sums[d] = total
