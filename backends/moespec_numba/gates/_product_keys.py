"""gates.product_keys."""

from typing import NamedTuple

import numpy as np
from numba import prange

from moespec.program import Impl
from moespec_numba._kernel import BLOCK, OPS, empty, kernel, read, zeros
from moespec_numba.gates._order import choose, selection


class Saved(NamedTuple):
    ids: np.ndarray         # T K
    keys: int
    dtypes: tuple


def forward(first, second, indices=None, *, k=None):
    dims = OPS["gates.product_keys"].admit(first, second, indices, k=k)
    dtype = np.result_type(first, second)
    a, b = read(first, dtype), read(second, dtype)
    ids, given = selection(indices, dims.T, k)
    if not given:
        _search(a, b, min(k, dims.n), ids)
    scores = empty(ids.shape, first.dtype)
    _add(a, b, ids, scores)
    return (ids, scores), Saved(read(ids), dims.n, (first.dtype, second.dtype))


def backward(saved, dscores):
    shape = len(dscores), saved.keys
    dfirst, dsecond = zeros(shape, dscores.dtype), zeros(shape, dscores.dtype)
    _split(read(dscores), saved.ids, dfirst, dsecond)
    return dfirst.astype(saved.dtypes[0], copy=False), dsecond.astype(saved.dtypes[1], copy=False)


@kernel(parallel=True)
def _search(first, second, half, ids):
    tokens, k = ids.shape
    for block in prange((tokens + BLOCK - 1) // BLOCK):
        best, sums = np.empty(k, first.dtype), np.empty(half * half, first.dtype)
        rows, columns = np.empty(half, np.int64), np.empty(half, np.int64)
        for t in range(block * BLOCK, min(tokens, (block + 1) * BLOCK)):
            _candidates(first[t], rows, best)
            _candidates(second[t], columns, best)
            for c in range(half * half):
                sums[c] = first[t, rows[c // half]] + second[t, columns[c % half]]
            choose(sums, ids[t], best)
            for j in range(k):
                ids[t, j] = rows[ids[t, j] // half] * first.shape[1] + columns[ids[t, j] % half]


@kernel
def _candidates(scores, ids, best):
    """The best keys in ascending order, so that equal sums go to the lower id."""
    choose(scores, ids, best)
    for j in range(1, len(ids)):
        i, at = ids[j], j
        while at > 0 and ids[at - 1] > i:
            ids[at] = ids[at - 1]
            at -= 1
        ids[at] = i


@kernel
def _add(first, second, ids, scores):
    keys = first.shape[1]
    for t in range(len(ids)):
        for j in range(ids.shape[1]):
            i = ids[t, j]
            scores[t, j] = first[t, i // keys] + second[t, i % keys] if i >= 0 else 0


@kernel
def _split(dscores, ids, dfirst, dsecond):
    keys = dfirst.shape[1]
    for t in range(len(ids)):
        for j in range(ids.shape[1]):
            i = ids[t, j]
            if i >= 0:
                dfirst[t, i // keys] += dscores[t, j]
                dsecond[t, i % keys] += dscores[t, j]


IMPL = Impl(forward, backward)
