"""Rows by their number, and the adjoint."""

from moespec_cupy._kernel import Kernels, empty, read, rows
from moespec_cupy.dispatch._combine import combine_to_rows
from moespec_cupy.dispatch._counting_sort import counting_sort

KERNELS = Kernels(__file__, "_take.cu")


def take_rows(x, index):
    """x[index] for an index of any shape; 0 where it is -1."""
    x, index = read(x), read(index, "int64")
    out = empty((*index.shape, x.shape[1]), x.dtype)
    KERNELS("take_rows", rows(index.size), x, index, out, index.size, x.shape[1], len(x))
    return out


def add_rows(values, index, count):
    """[count, D]: values[i] added into row index[i], in ascending i; -1 adds nothing."""
    found, flat = counting_sort(index, count), read(values).reshape(index.size, values.shape[-1])
    return combine_to_rows(None, flat, found.order, found.offsets, count, 1)
