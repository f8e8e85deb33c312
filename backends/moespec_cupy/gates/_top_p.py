"""gates.top_p."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, empty, items, read, rows

KERNELS = Kernels(__file__, "_top_p.cu")


class Saved(NamedTuple):
    ids: Any                # T K
    experts: int


def forward(scores, indices=None, *, p=None, at_most=None):
    dims, x = admit("gates.top_p", scores, indices, p=p, at_most=at_most), read(scores)
    if indices is not None:
        ids, weights = indices.astype("int64"), empty(indices.shape, x.dtype)
        KERNELS("take_scores", items(ids.size), x, ids, weights, ids.size, ids.shape[1], dims.E)
    else:
        most = at_most or dims.E
        ids, weights = empty((dims.T, most), "int64"), empty((dims.T, most), x.dtype)
        KERNELS("top_p", rows(dims.T), x, p, ids, weights, dims.T, dims.E, most)
    return (ids, weights), Saved(ids, dims.E)


def backward(saved, dweights):
    (tokens, choices), dscores = saved.ids.shape, empty((len(dweights), saved.experts), dweights.dtype)
    KERNELS("take_scores_backward", items(dscores.size), read(dweights), saved.ids, dscores, tokens, saved.experts, choices)
    return dscores


IMPL = Impl(forward, backward)
