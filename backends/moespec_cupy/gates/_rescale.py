"""gates.rescale."""

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, empty, items, read

KERNELS = Kernels(__file__, "_by_constant.cu")


def forward(logits, *, factor):
    admit("gates.rescale", logits, factor=factor)
    return _times(logits, factor), factor


def backward(factor, dscaled):
    return _times(dscaled, factor)


def _times(x, factor):
    y = empty(x.shape, x.dtype)
    KERNELS("rescale", items(x.size), read(x), y, x.size, factor)
    return y


IMPL = Impl(forward, backward)
