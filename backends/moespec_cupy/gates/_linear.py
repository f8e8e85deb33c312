"""gates.linear."""

from typing import Any, NamedTuple

from moespec.op import wider
from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import accumulation, read
from moespec_cupy.dispatch._column_sums import column_sums
from moespec_cupy.gates._elementwise import add_row, cast
from moespec_cupy.gates._product import product


class Saved(NamedTuple):
    x: Any                  # T D
    w: Any                  # D E
    bias: Any               # its dtype, or None


def forward(x, w, b=None, *, dtype="float32"):
    admit("gates.linear", x, w, b, dtype=dtype)
    out = wider(x.dtype, dtype)
    if b is None:
        return product(x, w, out), Saved(x, w, None)
    wide = accumulation(out, w.dtype, b.dtype)                          # the sum is rounded, not the product
    return cast(add_row(product(x, w, wide), b), out), Saved(x, w, b.dtype)


def backward(saved, dlogits):
    x, w, bias = saved
    db = None if bias is None else column_sums(read(dlogits), bias)
    return product(dlogits, w.T, x.dtype), product(x.T, dlogits, w.dtype), db


IMPL = Impl(forward, backward)
