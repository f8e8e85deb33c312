"""experts.copy."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, empty, read, rows

KERNELS = Kernels(__file__, "_copy.cu")
NO_END = 2**63 - 1


class Saved(NamedTuple):
    x: Any                  # T D
    indices: Any            # T K
    weights: Any            # T K
    first: int
    last: int


def forward(x, indices, weights, *, first, last=None):
    dims = admit("experts.copy", x, indices, weights, first=first, last=last)
    saved = Saved(read(x), read(indices, "int64"), read(weights), first, NO_END if last is None else last)
    y = empty(x.shape, x.dtype)
    KERNELS("weigh_copies", rows(dims.T), saved.x, saved.indices, saved.weights, y, dims.T, dims.K, dims.D, first, saved.last)
    return y, saved


def backward(saved, dy):
    dy, dx, dweights = read(dy), empty(saved.x.shape, saved.x.dtype), empty(saved.weights.shape, saved.weights.dtype)
    sizes = *saved.indices.shape, saved.x.shape[1], saved.first, saved.last
    KERNELS("weigh_copies", rows(len(dx)), dy, saved.indices, saved.weights, dx, *sizes)
    KERNELS("copies_to_weights", rows(len(dx)), saved.x, saved.indices, dy, dweights, *sizes)
    return dx, dweights


IMPL = Impl(forward, backward)
