"""gates.product_keys."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, empty, items, read, rows
from moespec_cupy.gates._topk import best_of_rows

KERNELS = Kernels(__file__, "_product_keys.cu")


class Saved(NamedTuple):
    ids: Any                # T K
    keys: int
    dtype: Any              # of second


def forward(first, second, indices=None, *, k=None):
    dims = admit("gates.product_keys", first, second, indices, k=k)
    first, second = read(first), read(second)
    ids = _search(first, second, k) if indices is None else indices.astype("int64")
    scores = empty(ids.shape, first.dtype)
    KERNELS("pair_scores", items(ids.size), first, second, ids, scores, ids.size, ids.shape[1], dims.n)
    return (ids, scores), Saved(ids, dims.n, second.dtype)


def backward(saved, dscores):
    (tokens, choices), shape = saved.ids.shape, (len(dscores), saved.keys)
    dfirst, dsecond = empty(shape, dscores.dtype), empty(shape, saved.dtype)
    KERNELS("pair_scores_backward", rows(tokens), read(dscores), saved.ids, dfirst, dsecond, tokens, saved.keys, choices)
    return dfirst, dsecond


def _search(first, second, k):
    """Ids of the best pairs: every one of them is a pair of a best key of either half."""
    (tokens, keys), half = first.shape, min(k, first.shape[1])
    ids = empty((tokens, k), "int64")
    KERNELS("best_pairs", rows(tokens), first, second, best_of_rows(first, half), best_of_rows(second, half), ids, tokens, keys, half, k)
    return ids


IMPL = Impl(forward, backward)
