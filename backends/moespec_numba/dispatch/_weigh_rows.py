"""dispatch.weigh_rows."""

from typing import NamedTuple

import numpy as np
from numba import prange

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read
from moespec_numba._vector import clear, inner, scale
from moespec_numba.dispatch._rows import by_target


class Saved(NamedTuple):
    rows: np.ndarray        # N D
    factors: np.ndarray     # N     sum of the weights of a row's assignments
    row: np.ndarray         # T K
    offsets: np.ndarray     # N+1   a row is somebody's if it has assignments
    dtype: np.dtype         # of the weights


def forward(rows, weights, row):
    OPS["dispatch.weigh_rows"].admit(rows, weights, row)
    source, offsets = by_target(row, len(rows))
    factors, out = empty(len(rows), weights.dtype), empty(rows.shape, rows.dtype)
    _factors(read(weights).reshape(-1), source, offsets, factors)
    saved = Saved(read(rows), read(factors), read(row, "int64"), offsets, weights.dtype)
    _weigh(saved.rows, saved.factors, offsets, out)
    return out, saved


def backward(saved, dout):
    d, drows, dweights = read(dout), empty(saved.rows.shape, saved.rows.dtype), empty(saved.row.shape, saved.dtype)
    _weigh(d, saved.factors, saved.offsets, drows)
    _to_weights(saved.rows, d, saved.row, dweights)
    return drows, dweights


@kernel
def _factors(weights, source, offsets, factors):
    for i in range(len(factors)):
        factors[i] = 0
        for n in range(offsets[i], offsets[i + 1]):
            factors[i] += weights[source[n]]


@kernel(parallel=True)
def _weigh(rows, factors, offsets, out):
    for i in prange(len(rows)):
        if offsets[i + 1] > offsets[i]:
            scale(out[i], factors[i], rows[i])
        else:
            clear(out[i])


@kernel
def _to_weights(rows, d, row, dweights):
    for t in range(len(row)):
        for j in range(row.shape[1]):
            dweights[t, j] = inner(rows[row[t, j]], d[row[t, j]]) if row[t, j] >= 0 else 0


IMPL = Impl(forward, backward)
