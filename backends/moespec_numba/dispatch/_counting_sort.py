"""A stable counting sort: histograms of blocks, an exclusive scan over (bucket, block), a stable scatter."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numba import prange

from moespec_numba._kernel import empty, kernel, read, zeros

_BLOCK = 16384         # entries that are worth a block of their own
APART = 8              # int64 of padding, a cache line: no two blocks count in the same one


class Sorted(NamedTuple):
    """Entries (t, j) of a table of keys, sorted by key; equal keys stay in order of (t, j)."""

    source: np.ndarray      # N     place -> t, -1 after the last entry
    place: np.ndarray       # T K   entry -> place, -1 where the key is -1
    offsets: np.ndarray     # B+1   entries of bucket b are at offsets[b] .. offsets[b+1]-1


def counting_sort(keys, buckets, length=None) -> Sorted:
    """Sort the entries of `keys` [T, K], each -1 (left out) .. buckets-1; `length` is N, at least the number of entries that have a key.

    All int64.  The result does not depend on the number of threads.
    """
    source = empty(keys.size if length is None else length, "int64")
    place, offsets = empty(keys.shape, "int64"), empty(buckets + 1, "int64")
    blocks = keys.size // max(_BLOCK, buckets)                # so that the scan is never longer than the keys
    if blocks > 1:
        blocks = min(numba.get_num_threads(), blocks)
    table = zeros((max(blocks, 1), buckets + APART), "int64")
    (_in_blocks if blocks > 1 else sort_in_one)(read(keys, "int64"), table, source, place, offsets)
    return Sorted(source, place, offsets)


@kernel(parallel=True)
def _in_blocks(keys, table, source, place, offsets):
    blocks, tokens = len(table), len(keys)
    for b in prange(blocks):
        _count(keys, b * tokens // blocks, (b + 1) * tokens // blocks, table[b])
    _scan(table, offsets)
    for b in prange(blocks):
        _scatter(keys, b * tokens // blocks, (b + 1) * tokens // blocks, table[b], source, place)
    _close(source, offsets[-1])


@kernel
def sort_in_one(keys, table, source, place, offsets):
    _count(keys, np.int64(0), len(keys), table[0])
    _scan(table, offsets)
    _scatter(keys, np.int64(0), len(keys), table[0], source, place)
    _close(source, offsets[-1])


@kernel(entry=False)
def _count(keys, start, stop, counts):
    for t in range(start, stop):
        for j in range(keys.shape[1]):
            if keys[t, j] >= 0:
                counts[keys[t, j]] += 1


@kernel(entry=False)
def _scan(table, offsets):
    """Counts become first places: all blocks of bucket 0, all of bucket 1, ..."""
    total = np.int64(0)
    for e in range(len(offsets) - 1):
        offsets[e] = total
        for b in range(len(table)):
            total, table[b, e] = total + table[b, e], total
    offsets[-1] = total


@kernel(entry=False)
def _scatter(keys, start, stop, free, source, place):
    """`free`: the next place of every bucket."""
    for t in range(start, stop):
        for j in range(keys.shape[1]):
            place[t, j] = -1
            if keys[t, j] >= 0:
                at = free[keys[t, j]]
                free[keys[t, j]] = at + 1
                source[at], place[t, j] = t, at


@kernel(entry=False)
def _close(source, live):
    for n in range(live, len(source)):
        source[n] = -1
