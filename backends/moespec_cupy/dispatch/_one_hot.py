"""dispatch.one_hot."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, empty, items, read, zeros
from moespec_cupy.dispatch._serving import choice_major, places

KERNELS = Kernels(__file__, "_one_hot.cu")


class Saved(NamedTuple):
    ids: Any                # T K
    place: Any              # T K   -1 = none


def forward(indices, weights, *, experts, capacity):
    admit("dispatch.one_hot", indices, weights, experts=experts, capacity=capacity)
    ids, shape = read(indices, "int64"), (len(indices), experts, capacity)
    saved = Saved(ids, places(ids, choice_major(ids.shape), experts, capacity))
    taken, combine = zeros(shape, "bool"), zeros(shape, weights.dtype)
    KERNELS("fill_places", items(ids.size), *saved, read(weights), taken, combine, ids.size, ids.shape[1], experts, capacity)
    return (taken, combine), saved


def backward(saved, dcombine):
    dweights = empty(saved.ids.shape, dcombine.dtype)
    (tokens, choices), (_, experts, capacity) = saved.ids.shape, dcombine.shape
    KERNELS("read_places", items(dweights.size), *saved, read(dcombine), dweights, tokens * choices, choices, experts, capacity)
    return dweights


IMPL = Impl(forward, backward)
