"""gates.mix_in."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, empty, items, read
from moespec_cupy.gates._columns import sum_products
from moespec_cupy.gates._elementwise import cast
from moespec_cupy.gates._mixed import common

KERNELS = Kernels(__file__, "_mix_in.cu")


class Saved(NamedTuple):
    previous: Any           # T D
    scale: Any              # D     in the dtype of previous
    dtypes: tuple           # of both, as they came


def forward(h, previous, scale):
    dims, dtype = admit("gates.mix_in", h, previous, scale), common(h, previous, scale)
    saved, mixed = Saved(read(cast(previous, dtype)), read(cast(scale, dtype)), (previous.dtype, scale.dtype)), empty(h.shape, h.dtype)
    KERNELS("mix_in", items(h.size), read(h), *saved[:2], mixed, h.size, dims.D)
    return mixed, saved


def backward(saved, dmixed):
    dprevious = empty(saved.previous.shape, saved.previous.dtype)
    KERNELS("mix_in_backward", items(dprevious.size), saved.scale, read(dmixed), dprevious, dprevious.size, len(saved.scale))
    return dmixed.copy(), cast(dprevious, saved.dtypes[0]), cast(sum_products(dmixed, saved.previous), saved.dtypes[1])


IMPL = Impl(forward, backward)
