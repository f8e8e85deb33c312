"""gates.cast_like."""

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy.gates._elementwise import cast


def forward(a, like):
    admit("gates.cast_like", a, like)
    return cast(a, like.dtype) if a.dtype != like.dtype else a.copy(), a.dtype


def backward(dtype, dy):
    return cast(dy, dtype) if dy.dtype != dtype else dy.copy()


IMPL = Impl(forward, backward)
