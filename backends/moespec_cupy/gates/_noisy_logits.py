"""gates.noisy_logits."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, empty, items, read, zeros
from moespec_cupy.gates._elementwise import cast
from moespec_cupy.gates._mixed import common

KERNELS = Kernels(__file__, "_noisy_logits.cu")


class Saved(NamedTuple):
    raw: Any                # T E
    noise: Any              # T E   in the dtype of raw
    dtypes: tuple           # of clean and raw, as they came


def forward(clean, raw, noise, *, floor=0.01):
    admit("gates.noisy_logits", clean, raw, noise, floor=floor)
    return noisy(clean, raw, noise, floor)


def noisy(clean, raw, noise, floor):
    """((logits, sigma), saved) of what was admitted."""
    dtype = common(clean, raw, noise)
    saved = Saved(read(cast(raw, dtype)), read(cast(noise, dtype)), (clean.dtype, raw.dtype))
    logits, sigma = empty(clean.shape, clean.dtype), empty(clean.shape, clean.dtype)
    KERNELS("noisy_logits", items(clean.size), read(clean), *saved[:2], logits, sigma, clean.size, floor)
    return (logits, sigma), saved


def backward(saved, dlogits, dsigma):
    dclean = zeros(saved.raw.shape, saved.dtypes[0]) if dlogits is None else dlogits.copy()
    return dclean, cast(through_noise(saved, dlogits, dsigma), saved.dtypes[1])


def through_noise(saved, dlogits, dsigma):
    """The gradient of what the scale of the noise is made of."""
    draw = empty(saved.raw.shape, saved.raw.dtype)
    KERNELS("noisy_logits_backward", items(draw.size), *saved[:2], read(dlogits), read(dsigma), draw, draw.size)
    return draw


IMPL = Impl(forward, backward)
