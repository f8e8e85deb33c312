"""gates.rms_norm."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, accumulation, columns, empty, read, rows

KERNELS = Kernels(__file__, "_rms_norm.cu")


class Saved(NamedTuple):
    x: Any                  # T D
    scale: Any              # D, or None
    inverse: Any            # T     1 / rms
    how: tuple              # factor, offset, before


def forward(x, scale=None, *, eps=1e-6, factor=1.0, offset=0.0, before=False):
    dims = admit("gates.rms_norm", x, scale, eps=eps, factor=factor, offset=offset, before=before)
    wide = accumulation(*(a.dtype for a in (x, scale) if a is not None))
    saved, y = Saved(read(x), read(scale), empty(dims.T, wide), (factor, offset, before)), empty(x.shape, x.dtype)
    KERNELS("rms_norm", rows(dims.T), *saved[:2], y, saved.inverse, dims.T, dims.D, eps, *saved.how)
    return y, saved


def backward(saved, dy):
    d, (tokens, width) = read(dy), saved.x.shape
    dx, along = empty(saved.x.shape, saved.x.dtype), empty(tokens, saved.inverse.dtype)
    KERNELS("rms_norm_backward", rows(tokens), *saved[:3], d, dx, along, tokens, width, *saved.how)
    if saved.scale is None:
        return dx, None
    dscale = empty(saved.scale.shape, saved.scale.dtype)
    KERNELS("rms_norm_to_scale", columns(width, tokens), *saved[:3], d, along, dscale, tokens, width, *saved.how)
    return dx, dscale


IMPL = Impl(forward, backward)
