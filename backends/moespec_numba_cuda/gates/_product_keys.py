"""gates.product_keys."""

from __future__ import annotations

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import common, convert, empty, like, read
from moespec_numba_cuda._device import cuda, device
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda._rows import clear, legal
from moespec_numba_cuda.gates._order import choose


class Saved(NamedTuple):
    ids: Any                # T K
    keys: int
    dtypes: tuple


def forward(first, second, indices=None, *, k=None):
    dims = admit("gates.product_keys", first, second, indices, k=k)
    a, b = common(first, second)
    ids = _search(a, b, k) if indices is None else convert(read(indices), "int64")
    scores = empty(ids.shape, a.dtype)
    _add(items(len(ids)), a, b, ids, scores)
    return (ids, like(first, scores)), Saved(ids, dims.n, (first.dtype, second.dtype))


def backward(saved, dscores):
    d = read(dscores)
    dfirst, dsecond = (empty((len(d), saved.keys), d.dtype) for _ in range(2))
    _split(items(len(d)), d, saved.ids, dfirst, dsecond)
    return convert(dfirst, saved.dtypes[0]), convert(dsecond, saved.dtypes[1])


def _search(first, second, k):
    """Ids of the best pairs: every one of them is a pair of a best key of either half."""
    tokens, half = len(first), min(k, first.shape[1])
    ids, best = empty((tokens, k), "int64"), empty((tokens, k), first.dtype)
    rows, columns, sums = empty((tokens, half), "int64"), empty((tokens, half), "int64"), empty((tokens, half * half), first.dtype)
    _best_pairs(items(tokens), first, second, rows, columns, sums, best, ids)
    return ids


@kernel("T2 T2 i2 i2 T2 T2 i2")
def _best_pairs(first, second, rows, columns, sums, best, ids):
    keys, half = first.shape[1], rows.shape[1]
    for t in range(cuda.grid(1), len(ids), cuda.gridsize(1)):
        candidates(first[t], rows[t], best[t])
        candidates(second[t], columns[t], best[t])
        for c in range(half * half):
            sums[t, c] = first[t, rows[t, c // half]] + second[t, columns[t, c % half]]
        choose(sums[t], ids[t], best[t])
        for j in range(ids.shape[1]):
            ids[t, j] = rows[t, ids[t, j] // half] * keys + columns[t, ids[t, j] % half]


@device
def candidates(scores, ids, best):
    """The best keys in ascending order, so that equal sums go to the lower id."""
    choose(scores, ids, best)
    for j in range(1, len(ids)):
        i, at = ids[j], j
        while at > 0 and ids[at - 1] > i:
            ids[at] = ids[at - 1]
            at -= 1
        ids[at] = i


@kernel("T2 T2 i2 T2")
def _add(first, second, ids, scores):
    keys = first.shape[1]
    for t in range(cuda.grid(1), len(ids), cuda.gridsize(1)):
        for j in range(ids.shape[1]):
            i = legal(ids[t, j], keys * keys)
            scores[t, j] = first[t, i // keys] + second[t, i % keys] if i >= 0 else 0


@kernel("T2 i2 T2 T2")
def _split(dscores, ids, dfirst, dsecond):
    keys = dfirst.shape[1]
    for t in range(cuda.grid(1), len(ids), cuda.gridsize(1)):
        clear(dfirst[t])
        clear(dsecond[t])
        for j in range(ids.shape[1]):
            i = legal(ids[t, j], keys * keys)
            if i >= 0:
                dfirst[t, i // keys] += dscores[t, j]
                dsecond[t, i % keys] += dscores[t, j]


IMPL = Impl(forward, backward)
