"""gates.product_keys."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read, zeros
from moespec_numba.gates._gather import untake_row
from moespec_numba.gates._order import choose


class Found(NamedTuple):
    indices: np.ndarray     # T K
    scores: np.ndarray      # T K


class Saved(NamedTuple):
    first: np.ndarray       # T K   coordinates, -1 = none
    second: np.ndarray      # T K
    keys: int
    dtypes: tuple


def forward(first, second, indices=None, *, k=None):
    dims = OPS["gates.product_keys"].admit(first, second, indices, k=k)
    dtype = np.result_type(first, second)
    a, b = read(first, dtype), read(second, dtype)
    if indices is None:
        ids, h = empty((dims.T, k), "int64"), min(k, dims.n)
        _search(a, b, ids, empty((2, h), "int64"), empty(max(h * h, k), dtype), empty(h, dtype))
    else:
        ids = np.array(indices, "int64", order="C")
    p, q, scores = empty(ids.shape, "int64"), empty(ids.shape, "int64"), empty(ids.shape, first.dtype)
    _score(a, b, read(ids), p, q, scores)
    return Found(ids, scores), Saved(read(p), read(q), dims.n, (first.dtype, second.dtype))


def backward(saved, dscores):
    shape = len(dscores), saved.keys
    da, db = zeros(shape, dscores.dtype), zeros(shape, dscores.dtype)
    _teach(read(dscores), saved.first, saved.second, da, db)
    return da.astype(saved.dtypes[0], copy=False), db.astype(saved.dtypes[1], copy=False)


@kernel
def _search(a, b, ids, best, sums, held):
    """The best of every half, the sums of their pairs in ascending order of id, and the best of those."""
    n, h, k = a.shape[1], best.shape[1], ids.shape[1]
    room = np.empty(k, sums.dtype)
    for t in range(len(ids)):
        choose(a[t], best[0], held)
        choose(b[t], best[1], held)
        best[0].sort()
        best[1].sort()
        for i in range(h):
            for j in range(h):
                sums[i * h + j] = a[t, best[0, i]] + b[t, best[1, j]]
        choose(sums[:h * h], ids[t], room)
        for j in range(k):
            place = ids[t, j]
            ids[t, j] = best[0, place // h] * n + best[1, place % h]


@kernel
def _score(a, b, ids, p, q, scores):
    n = a.shape[1]
    for t in range(len(ids)):
        for j in range(ids.shape[1]):
            i = ids[t, j]
            p[t, j], q[t, j] = (i // n, i % n) if i >= 0 else (-1, -1)
            scores[t, j] = a[t, p[t, j]] + b[t, q[t, j]] if i >= 0 else a.dtype.type(0)


@kernel
def _teach(d, p, q, da, db):
    for t in range(len(d)):
        untake_row(d[t], p[t], da[t])
        untake_row(d[t], q[t], db[t])


IMPL = Impl(forward, backward)
