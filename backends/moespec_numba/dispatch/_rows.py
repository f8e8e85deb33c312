"""Rows by index, both ways, in parallel and without atomics: adding up is a sort by target and a gather."""

from numba import prange

from moespec_numba._kernel import empty, kernel, read
from moespec_numba._vector import add_scaled, clear, copy
from moespec_numba.dispatch._counting_sort import counting_sort


def take_rows(x, index):
    """x[index] for x [N, D], zeros where the index is -1; `index` may have any shape."""
    out = empty((index.size, x.shape[1]), x.dtype)
    _take(read(x), read(index.reshape(-1), "int64"), out)
    return out.reshape(*index.shape, x.shape[1])


def add_rows(values, index, n, dtype):
    """[n, D]: values[i] [M, D] added into row index[i], in ascending i; -1 adds nothing."""
    source, offsets = by_target(index, n)
    out = empty((n, values.shape[1]), dtype)
    _add(read(values), source, offsets, out)
    return out


def by_target(index, n):
    """(source, offsets): target i is index[] of the flat positions source[offsets[i]] .. source[offsets[i+1]-1], ascending."""
    found = counting_sort(index.reshape(-1, 1), n)
    return read(found.source), read(found.offsets)


@kernel(parallel=True)
def _take(x, index, out):
    for i in prange(len(index)):
        if index[i] >= 0:
            copy(out[i], x[index[i]])
        else:
            clear(out[i])


@kernel(parallel=True)
def _add(values, source, offsets, out):
    for i in prange(len(out)):
        clear(out[i])
        for n in range(offsets[i], offsets[i + 1]):
            add_scaled(out[i], out.dtype.type(1), values[source[n]])
