"""dispatch.combine."""

from typing import NamedTuple

import numpy as np
from numba import prange

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read
from moespec_numba._vector import add_scaled, clear, inner
from moespec_numba.dispatch._rows import by_target

SMALL = 2**13           # numbers that are added up before another thread is awake


class Saved(NamedTuple):
    rows: np.ndarray        # N D
    weights: np.ndarray     # T K
    row: np.ndarray         # T K


def forward(rows, weights, row):
    dims = OPS["dispatch.combine"].admit(rows, weights, row)
    saved, y = Saved(read(rows), read(weights), read(row, "int64")), empty((dims.T, dims.D), rows.dtype)
    combine_rows(*saved, y)
    return y, saved


def backward(saved, dy):
    drows, dweights = empty(saved.rows.shape, saved.rows.dtype), empty(saved.weights.shape, saved.weights.dtype)
    combine_to_rows(saved.weights, read(dy), *by_target(saved.row, len(saved.rows)), drows)
    combine_to_weights(saved.rows, saved.row, read(dy), dweights)
    return drows, dweights


def combine_rows(rows, weights, row, y):
    """Every token adds up its rows, in ascending order of choice."""
    (_in_parallel if y.size * row.shape[1] > SMALL else combine_in_order)(rows, weights, row, y)


@kernel(parallel=True)
def _in_parallel(rows, weights, row, y):
    for t in prange(len(y)):
        _combine(rows, weights[t], row[t], y[t])


@kernel
def combine_in_order(rows, weights, row, y):
    for t in range(len(y)):
        _combine(rows, weights[t], row[t], y[t])


@kernel(entry=False)
def _combine(rows, weights, row, y):
    clear(y)
    for j in range(len(row)):
        if row[j] >= 0:
            add_scaled(y, weights[j], rows[row[j]])


@kernel(parallel=True)
def combine_to_rows(weights, dy, source, offsets, drows):
    """Every row adds up the tokens it went to, weighted; `source` holds flat positions t * K + j."""
    for i in prange(len(drows)):
        clear(drows[i])
        for n in range(offsets[i], offsets[i + 1]):
            t, j = divmod(source[n], weights.shape[1])
            add_scaled(drows[i], weights[t, j], dy[t])


@kernel(parallel=True)
def combine_to_weights(rows, row, dy, dweights):
    """The inner products of a token with its rows; 0 where there is none."""
    for t in prange(len(dweights)):
        for j in range(row.shape[1]):
            dweights[t, j] = inner(rows[row[t, j]], dy[t]) if row[t, j] >= 0 else 0


IMPL = Impl(forward, backward)
