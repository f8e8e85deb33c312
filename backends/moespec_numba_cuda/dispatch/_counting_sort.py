"""A stable counting sort without atomics: histograms of chunks, their sums, and every chunk puts its entries in place in order."""

from __future__ import annotations

from typing import Any, NamedTuple

from moespec_numba_cuda._arrays import empty, flat, full, read, zeros
from moespec_numba_cuda._device import cuda, device
from moespec_numba_cuda._kernel import blocks, items, kernel

CHUNK = 64              # entries that are worth a thread of their own
CHUNKS = 1024           # at most
BITS = 8                # of a key that one pass of `resort` sorts by


class Sorted(NamedTuple):
    """Entries (t, j) of a table of keys, sorted by key; equal keys stay in order of (t, j).  All int64."""

    order: Any              # N     place -> flat entry t * K + j, -1 after the last
    place: Any              # T K   entry -> place, -1 where the key is nobody's
    offsets: Any            # B+1   entries of bucket b are at offsets[b] .. offsets[b+1]-1


def counting_sort(keys, buckets, length=None) -> Sorted:
    """Sort the entries of `keys`, of any shape, each in 0 .. buckets-1 or left out; `length` is N, at least the number of those sorted."""
    keys = read(keys, "int64")
    return _sort(keys, buckets, empty(0, "int64"), keys.size if length is None else length)


def resort(keys, before, most):
    """The flat entries `before` sorted by their key, 0 .. most, as well; equal keys stay in order, -1 behind the last."""
    keys, order = read(keys, "int64"), before
    for shift in range(0, max(most, 1).bit_length(), BITS):
        order = _sort(keys, 1 << BITS, order, len(before), shift).order
    return order


def _sort(keys, buckets, before, length, shift=0):
    """By `BITS` bits of the keys from `shift` on, if entries come in another order than their own."""
    order, place, offsets = full(length, -1, "int64"), full(keys.shape, -1, "int64"), empty(buckets + 1, "int64")
    entries = before.size or keys.size
    chunks = max(1, min(CHUNKS, entries // max(CHUNK, buckets)))          # the table is never larger than the keys
    table = zeros((chunks, buckets), "int64")
    _count(items(chunks), flat(keys), before, shift, table)
    _sum_chunks(items(buckets), table, offsets)
    _sum_buckets(blocks(1, 1), offsets)
    _place(items(chunks), flat(keys), before, shift, table, offsets, order, flat(place))
    return Sorted(order, place, offsets)


@device
def _entry(i, before):
    """The i-th entry in the order that there is."""
    return before[i] if len(before) else i


@device
def _bucket(keys, i, before, shift, buckets):
    """That of an entry; -1 is nobody's."""
    if i < 0 or keys[i] < 0:
        return -1
    if len(before):
        return (keys[i] >> shift) & (buckets - 1)
    return keys[i] if keys[i] < buckets else -1


@kernel("i1 i1 i i2")
def _count(keys, before, shift, table):
    """How many entries of every bucket a chunk has."""
    chunks, buckets = table.shape
    entries = len(before) if len(before) else len(keys)
    for c in range(cuda.grid(1), chunks, cuda.gridsize(1)):
        for at in range(c * entries // chunks, (c + 1) * entries // chunks):
            b = _bucket(keys, _entry(at, before), before, shift, buckets)
            if b >= 0:
                table[c, b] += 1


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


@kernel("i1 i1 i i2 i1 i1 i1")
def _place(keys, before, shift, table, offsets, order, place):
    """The next free place of every bucket in a chunk is in the table."""
    chunks, buckets = table.shape
    entries = len(before) if len(before) else len(keys)
    for c in range(cuda.grid(1), chunks, cuda.gridsize(1)):
        for at in range(c * entries // chunks, (c + 1) * entries // chunks):
            i = _entry(at, before)
            b = _bucket(keys, i, before, shift, buckets)
            if b >= 0:
                to = offsets[b] + table[c, b]
                table[c, b] += 1
                if to < len(order):
                    order[to] = i
                place[i] = to
