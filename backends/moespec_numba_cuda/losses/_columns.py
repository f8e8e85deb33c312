"""The columns of a matrix in descending order: a counting sort by one byte of the numbers after the other, and last by column."""

from __future__ import annotations

import numpy as np

from moespec_numba_cuda._arrays import convert, empty, flat
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda.dispatch._counting_sort import counting_sort

DIGIT = 256


def descending(x):
    """int64[T E]: the entries t * E + e of x[T, E], column after column, in the normative order."""
    size, experts = np.dtype(x.dtype).itemsize, x.shape[1]
    keys, order, digits = empty(x.size, "int64"), empty(x.size, "int64"), empty(x.size, "int64")
    _keys(items(x.size), convert(flat(x).view(f"int{8 * size}"), "int64"), *_LIMITS[size], keys, order)
    for byte in range(size):
        _digits(items(x.size), keys, order, 8 * byte, digits)
        order = _rearranged(order, counting_sort(digits, DIGIT).order)
    _columns(items(x.size), order, experts, digits)
    return _rearranged(order, counting_sort(digits, experts).order)


def _rearranged(order, by):
    out = empty(order.shape, "int64")
    _take(items(order.size), order, by, out)
    return out


_LIMITS = {4: (0x7FFFFFFF, 0x7F800000), 8: (0x7FFFFFFFFFFFFFFF, 0x7FF0000000000000)}      # all bits but the sign; infinity's


@kernel("i1 i i i1 i1")
def _keys(bits, most, infinity, keys, order):
    """Bits whose bytes, read without a sign, ascend where the numbers descend: NaN first, -0.0 as +0.0."""
    for i in range(cuda.grid(1), len(bits), cuda.gridsize(1)):
        size = bits[i] & most
        if size > infinity:
            keys[i] = 0
        elif bits[i] >= 0 or size == 0:
            keys[i] = most - size
        else:
            keys[i] = bits[i]
        order[i] = i


@kernel("i1 i1 i i1")
def _digits(keys, order, shift, digits):
    for i in range(cuda.grid(1), len(order), cuda.gridsize(1)):
        digits[i] = (keys[order[i]] >> shift) & 255


@kernel("i1 i i1")
def _columns(order, experts, columns):
    for i in range(cuda.grid(1), len(order), cuda.gridsize(1)):
        columns[i] = order[i] % experts


@kernel("i1 i1 i1")
def _take(order, by, out):
    for i in range(cuda.grid(1), len(order), cuda.gridsize(1)):
        out[i] = order[by[i]]
