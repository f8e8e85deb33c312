"""A stable counting sort: the order of rows."""

from typing import Any, NamedTuple

from moespec_cupy._kernel import Grid, Kernels, empty, full, items, one_block, read, zeros

KERNELS = Kernels(__file__, "_counting_sort.cu")
TILE = 256                    # as in the text
CHUNKS = 1024                 # at most; and never so many that the table is larger than the keys


class Sorted(NamedTuple):
    """Entries (t, j) of a table of keys, sorted by key; equal keys stay in order of (t, j).  All int64."""

    source: Any               # N     place -> t, -1 after the last entry
    place: Any                # T K   entry -> place, -1 where the key is nobody's
    offsets: Any              # B+1   entries of bucket b are at offsets[b] .. offsets[b+1]-1


def counting_sort(keys, buckets, length=None) -> Sorted:
    """Sort the entries of `keys` [T, K], each in 0 .. buckets-1 or left out; `length` is N, at least the number of those sorted."""
    length = keys.size if length is None else length
    chunks = max(1, min(CHUNKS, keys.size // (4 * TILE), keys.size // max(buckets, 1)))
    keys, table, totals = read(keys, "int64"), zeros((chunks, buckets), "int64"), empty(buckets, "int64")
    found = Sorted(full(length, -1, "int64"), empty(keys.shape, "int64"), empty(buckets + 1, "int64"))
    KERNELS("count_keys", Grid(chunks, TILE), keys, table, keys.size, buckets, chunks)
    KERNELS("sum_chunks", items(buckets), table, totals, buckets, chunks)
    KERNELS("sum_buckets", one_block(256), totals, found.offsets, buckets)
    KERNELS("place_keys", Grid(chunks, TILE), keys, table, found.offsets, found.source, found.place,
            keys.size, keys.shape[1], buckets, chunks, length)
    return found
