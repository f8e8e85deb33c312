"""gates.mix_in."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, columns, empty, items, read
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
    previous, scale, d = saved.previous, saved.scale, read(dmixed)
    dprevious, dscale = empty(previous.shape, previous.dtype), empty(scale.shape, scale.dtype)
    KERNELS("mix_in_backward", items(dprevious.size), scale, d, dprevious, dprevious.size, len(scale))
    KERNELS("mix_in_to_scale", columns(len(scale), len(d)), previous, d, dscale, *d.shape)
    return dmixed.copy(), cast(dprevious, saved.dtypes[0]), cast(dscale, saved.dtypes[1])


IMPL = Impl(forward, backward)
