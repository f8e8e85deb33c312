"""gates.relu_route."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, empty, items, read

KERNELS = Kernels(__file__, "_relu_route.cu")


class Saved(NamedTuple):
    logits: Any             # T E
    given: Any              # T E, or None


def forward(logits, indices=None):
    dims, saved = admit("gates.relu_route", logits, indices), Saved(read(logits), read(indices, "int64"))
    ids, weights = empty(logits.shape, "int64"), empty(logits.shape, logits.dtype)
    KERNELS("relu_route", items(ids.size), *saved, ids, weights, ids.size, dims.E)
    return (ids, weights), saved


def backward(saved, dweights):
    dlogits = empty(saved.logits.shape, saved.logits.dtype)
    KERNELS("relu_route_backward", items(dlogits.size), *saved, read(dweights), dlogits, dlogits.size)
    return dlogits


IMPL = Impl(forward, backward)
