"""gates.scale_weights."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, empty, one_block, read
from moespec_cupy.gates._elementwise import multiply_row

KERNELS = Kernels(__file__, "_scale_weights.cu")


class Saved(NamedTuple):
    weights: Any            # T K
    scale: Any              # ()


def forward(weights, scale):
    admit("gates.scale_weights", weights, scale)
    return multiply_row(weights, scale), Saved(read(weights), scale)


def backward(saved, dscaled):
    dscale = empty((), saved.scale.dtype)
    KERNELS("sum_of_products", one_block(), saved.weights, read(dscaled), dscale, saved.weights.size)
    return multiply_row(dscaled, saved.scale), dscale


IMPL = Impl(forward, backward)
