"""gates.sparsemixer."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, empty, items, read, rows

KERNELS = Kernels(__file__, "_sparsemixer.cu")


class Saved(NamedTuple):
    logits: Any             # T E
    ids: Any                # T K
    tops: Any               # T K   the largest logit of every round
    totals: Any             # T K   what probabilities were divided by
    twice_eps: float


def forward(logits, indices=None, noise=None, heun=None, *, k=2, eps=0.01):
    dims = admit("gates.sparsemixer", logits, indices, noise, heun, k=k, eps=eps)
    shape, x, twice = (dims.T, k), read(logits), 2 * float(eps)
    ids, weights, tops, totals = empty(shape, "int64"), empty(shape, x.dtype), empty(shape, "float64"), empty(shape, "float64")
    noise = None if indices is not None else read(noise)
    KERNELS("sparsemixer", rows(dims.T), x, read(indices, "int64"), noise, read(heun, "float64"), twice, ids, weights, tops, totals,
            dims.T, dims.E, k)
    return (ids, weights), Saved(x, ids, tops, totals, twice)


def backward(saved, dweights):
    x, dlogits = saved.logits, empty(saved.logits.shape, saved.logits.dtype)
    KERNELS("sparsemixer_backward", items(x.size), *saved, read(dweights), dlogits, *x.shape, saved.ids.shape[1])
    return dlogits


IMPL = Impl(forward, backward)
