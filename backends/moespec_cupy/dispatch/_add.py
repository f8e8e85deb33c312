"""dispatch.add."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, empty, items, read

KERNELS = Kernels(__file__, "_tokens.cu")


class Saved(NamedTuple):
    scale: float
    dtypes: tuple[Any, Any]     # of a, of b


def forward(a, b, *, scale=1.0):
    admit("dispatch.add", a, b, scale=scale)
    y = empty(a.shape, a.dtype)
    KERNELS("add", items(a.size), read(a), read(b), y, float(scale), a.size)
    return y, Saved(float(scale), (a.dtype, b.dtype))


def backward(saved, dy):
    return tuple(_scaled(read(dy), saved.scale, dtype) for dtype in saved.dtypes)


def _scaled(x, scale, dtype):
    y = empty(x.shape, dtype)
    KERNELS("scale_by", items(x.size), x, y, scale, x.size)
    return y


IMPL = Impl(forward, backward)
