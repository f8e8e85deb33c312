"""A stable counting sort without atomics: histograms of chunks, their sums, and every chunk puts its entries in place in order."""

from __future__ import annotations

from typing import Any, NamedTuple

from moespec_numba_cuda._arrays import empty, flat, full, read, zeros
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import blocks, items, kernel

CHUNK = 64              # entries that are worth a thread of their own
CHUNKS = 1024           # at most


class Sorted(NamedTuple):
    """Entries (t, j) of a table of keys, sorted by key; equal keys stay in order of (t, j).  All int64."""

    order: Any              # N     place -> flat entry t * K + j, -1 after the last
    place: Any              # T K   entry -> place, -1 where the key is nobody's
    offsets: Any            # B+1   entries of bucket b are at offsets[b] .. offsets[b+1]-1


def counting_sort(keys, buckets, length=None) -> Sorted:
    """Sort the entries of `keys`, of any shape, each in 0 .. buckets-1 or left out; `length` is N, at least the number of those sorted."""
    keys = read(keys, "int64")
    order, place = full(keys.size if length is None else length, -1, "int64"), full(keys.shape, -1, "int64")
    offsets = empty(buckets + 1, "int64")
    chunks = max(1, min(CHUNKS, keys.size // max(CHUNK, buckets)))        # the table is never larger than the keys
    table = zeros((chunks, buckets), "int64")
    _count(items(chunks), flat(keys), table)
    _sum_chunks(items(buckets), table, offsets)
    _sum_buckets(blocks(1, 1), offsets)
    _place(items(chunks), flat(keys), table, offsets, order, flat(place))
    return Sorted(order, place, offsets)


@kernel("i1 i2")
def _count(keys, table):
    """How many entries of every bucket a chunk has."""
    chunks, buckets = table.shape
    for c in range(cuda.grid(1), chunks, cuda.gridsize(1)):
        for i in range(c * len(keys) // chunks, (c + 1) * len(keys) // chunks):
            if 0 <= keys[i] < buckets:
                table[c, keys[i]] += 1


@kernel("i2 i1")
def _sum_chunks(table, offsets):
    """Counts become those of the chunks before; offsets[b + 1] the size of bucket b."""
    chunks, buckets = table.shape
    for b in range(cuda.grid(1), buckets, cuda.gridsize(1)):
        total = 0
        for c in range(chunks):
            here = table[c, b]
            table[c, b] = total
            total += here
        offsets[b + 1] = total


@kernel("i1")
def _sum_buckets(offsets):
    """Sizes become the first place after them; by one thread."""
    offsets[0] = 0
    for b in range(1, len(offsets)):
        offsets[b] += offsets[b - 1]


@kernel("i1 i2 i1 i1 i1")
def _place(keys, table, offsets, order, place):
    """The next free place of every bucket in a chunk is in the table."""
    chunks, buckets = table.shape
    for c in range(cuda.grid(1), chunks, cuda.gridsize(1)):
        for i in range(c * len(keys) // chunks, (c + 1) * len(keys) // chunks):
            b = keys[i]
            if 0 <= b < buckets:
                at = offsets[b] + table[c, b]
                table[c, b] += 1
                if at < len(order):
                    order[at] = i
                place[i] = at
