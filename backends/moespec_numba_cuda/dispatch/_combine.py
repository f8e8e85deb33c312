"""dispatch.combine, and the sums over rows and over tokens that other ops share."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import common, empty, like, read
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda._rows import inner
from moespec_numba_cuda.dispatch._counting_sort import counting_sort


def forward(rows, weights, row):
    admit("dispatch.combine", rows, weights, row)
    x, w = common(rows, weights)
    return like(rows, combine_rows(x, w, read(row, "int64"))), (rows, weights, row)


def backward(saved, dy):
    rows, weights, row = saved
    x, w, d = common(rows, weights, dy)
    found = counting_sort(row, len(x))
    dweights = combine_to_weights(x, read(row, "int64"), d)
    return like(rows, combine_to_rows(w, d, found.order, found.offsets)), like(weights, dweights)


def combine_rows(rows, weights, row):
    """[T, D]: every token adds up its rows, in ascending order of choice."""
    y = empty((row.shape[0], rows.shape[1]), rows.dtype)
    _combine(items(y.size), rows, weights, row, y)
    return y


def combine_to_rows(weights, dy, order, offsets):
    """[N, D]: row n adds up what its entries, order[offsets[n]] .., had to do with: entry (t, j) weights[t, j] dy[t]."""
    drows = empty((len(offsets) - 1, dy.shape[1]), dy.dtype)
    _to_rows(items(drows.size), weights, dy, order, offsets, drows)
    return drows


def combine_to_weights(rows, row, dy):
    """[T, K]: the inner products of a token's cotangent with its rows; 0 where there is none."""
    dweights = empty(row.shape, dy.dtype)
    _to_weights(items(row.size), rows, row, dy, dweights)
    return dweights


@kernel("T2 T2 i2 T2")
def _combine(rows, weights, row, y):
    count, width = rows.shape
    for i in range(cuda.grid(1), y.shape[0] * width, cuda.gridsize(1)):
        t, d = i // width, i % width
        total = rows.dtype.type(0)
        for j in range(row.shape[1]):
            if 0 <= row[t, j] < count:
                total += weights[t, j] * rows[row[t, j], d]
        y[t, d] = total


@kernel("T2 T2 i1 i1 T2")
def _to_rows(weights, dy, order, offsets, drows):
    width, choices = dy.shape[1], weights.shape[1]
    for i in range(cuda.grid(1), drows.shape[0] * width, cuda.gridsize(1)):
        n, d = i // width, i % width
        total = dy.dtype.type(0)
        for at in range(offsets[n], offsets[n + 1]):
            t, j = order[at] // choices, order[at] % choices
            total += weights[t, j] * dy[t, d]
        drows[n, d] = total


@kernel("T2 i2 T2 T2")
def _to_weights(rows, row, dy, dweights):
    choices = row.shape[1]
    for i in range(cuda.grid(1), row.shape[0] * choices, cuda.gridsize(1)):
        t, j = i // choices, i % choices
        here = 0 <= row[t, j] < rows.shape[0]
        dweights[t, j] = inner(rows[row[t, j]], dy[t]) if here else 0


IMPL = Impl(forward, backward)
