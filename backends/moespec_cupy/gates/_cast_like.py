"""gates.cast_like."""

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy.gates._elementwise import cast


def forward(a, like):
    admit("gates.cast_like", a, like)
    return cast(a, like.dtype), a.dtype


def backward(dtype, dy):
    return cast(dy, dtype)


IMPL = Impl(forward, backward)
