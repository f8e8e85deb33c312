"""A stable counting sort: the order of rows."""

from typing import Any, NamedTuple

from moespec_cupy._kernel import Grid, Kernels, empty, full, items, one_block, read, zeros

KERNELS = Kernels(__file__, "_counting_sort.cu")
TILE = 256                    # as in the text
CHUNKS = 1024                 # at most; and never so many that the table is larger than the keys
BITS = 11                     # of a key that one pass sorts by, if there are more buckets than ONE_PASS
ONE_PASS = 4096


class Sorted(NamedTuple):
    """Entries (t, j) of a table of keys, sorted by key; equal keys stay in order of (t, j).  All int64."""

    order: Any                # N     place -> flat entry t * K + j, -1 after the last
    place: Any                # T K   entry -> place, -1 where the key is nobody's
    offsets: Any              # B+1   entries of bucket b are at offsets[b] .. offsets[b+1]-1


def counting_sort(keys, buckets, length=None) -> Sorted:
    """Sort the entries of `keys`, of any shape, each in 0 .. buckets-1 or left out; `length` is N, at least the number of those sorted."""
    keys, length = read(keys, "int64"), keys.size if length is None else length
    place, offsets = full(keys.shape, -1, "int64"), empty(buckets + 1, "int64")
    if buckets <= ONE_PASS:
        return Sorted(_one_pass(keys, None, buckets, 0, buckets, -1, length, place, offsets), place, offsets)
    order, last = None, (buckets - 1).bit_length() - 1
    for shift in range(0, last + 1, BITS):
        order = _one_pass(keys, order, buckets, shift, 1 << BITS, (1 << BITS) - 1, length, place if shift + BITS > last else None)
    KERNELS("find_buckets", items(buckets + 1), keys, order, offsets, buckets, length)
    return Sorted(order, place, offsets)


def resort(keys, before, buckets):
    """The flat entries `before` (none: all of them as they are), sorted by their key as well; -1 behind the last."""
    order, mask = before, (1 << BITS) - 1
    for shift in range(0, max(buckets - 1, 1).bit_length(), BITS):
        order = _one_pass(keys, order, buckets, shift, 1 << BITS, mask, keys.size if order is None else order.size)
    return order


def sort_entries(keys):
    """int64[N]: the flat entries of `keys` in ascending order of key, equal ones in order of position; -1 for those below 0, at the end."""
    keys, order = read(keys, "int64"), None
    for shift in range(0, 63, BITS):
        order = _one_pass(keys, order, 2**63 - 1, shift, 1 << BITS, (1 << BITS) - 1, keys.size)
    return order


def _one_pass(keys, before, buckets, shift, radix, mask, length, place=None, offsets=None):
    """The order after sorting by some bits of the keys."""
    entries = keys.size if before is None else before.size
    chunks = max(1, min(CHUNKS, entries // (4 * TILE), entries // max(radix, 1)))
    table, totals, order = zeros((chunks, radix), "int64"), empty(radix, "int64"), full(length, -1, "int64")
    offsets = empty(radix + 1, "int64") if offsets is None else offsets
    KERNELS("count_keys", Grid(chunks, TILE), keys, before, table, entries, buckets, chunks, shift, mask, radix)
    KERNELS("sum_chunks", items(radix), table, totals, radix, chunks)
    KERNELS("sum_buckets", one_block(256), totals, offsets, radix)
    KERNELS("place_keys", Grid(chunks, TILE), keys, before, table, offsets, order, place, entries, buckets, chunks, shift, mask, radix, length)
    return order
