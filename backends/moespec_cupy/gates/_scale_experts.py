"""gates.scale_experts."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, empty, items, read, rows
from moespec_cupy.dispatch._counting_sort import counting_sort

KERNELS = Kernels(__file__, "_scale_experts.cu")


class Saved(NamedTuple):
    weights: Any            # T K
    indices: Any            # T K
    scale: Any              # E


def forward(weights, indices, scale):
    admit("gates.scale_experts", weights, indices, scale)
    saved = Saved(read(weights), read(indices, "int64"), read(scale))
    return _scaled(saved.weights, saved), saved


def backward(saved, dscaled):
    d, experts, dscale = read(dscaled), len(saved.scale), empty(saved.scale.shape, saved.scale.dtype)
    found = counting_sort(saved.indices, experts)
    KERNELS("scale_experts_to_scale", rows(experts), saved.weights, d, found.order, found.offsets, dscale, experts)
    return _scaled(d, saved), dscale


def _scaled(values, saved):
    scaled = empty(values.shape, values.dtype)
    KERNELS("scale_experts", items(values.size), values, saved.indices, saved.scale, scaled, values.size, len(saved.scale))
    return scaled


IMPL = Impl(forward, backward)
