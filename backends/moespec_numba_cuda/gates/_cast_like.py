"""gates.cast_like."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import convert, read


def forward(a, like):
    admit("gates.cast_like", a, like)
    return convert(read(a), like.dtype), a.dtype


def backward(dtype, dy):
    return convert(read(dy), dtype)


IMPL = Impl(forward, backward)
