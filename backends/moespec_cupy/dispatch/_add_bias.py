"""dispatch.add_bias."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, empty, items, read
from moespec_cupy.dispatch._column_sums import column_sums

KERNELS = Kernels(__file__, "_tokens.cu")


class Saved(NamedTuple):
    x: Any                  # dtype of x
    b: Any                  # dtype of b


def forward(x, b):
    admit("dispatch.add_bias", x, b)
    y = empty(x.shape, x.dtype)
    KERNELS("add_bias", items(x.size), read(x), read(b), y, x.size, x.shape[1])
    return y, Saved(x.dtype, b.dtype)


def backward(saved, dy):
    return dy.astype(saved.x), column_sums(read(dy), saved.b)


IMPL = Impl(forward, backward)
