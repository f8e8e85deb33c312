"""dispatch.add."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arithmetic import add, scale
from moespec_numba_cuda._arrays import common, convert, read


def forward(a, b, *, scale=1.0):
    admit("dispatch.add", a, b, scale=scale)
    x, y = common(a, b)
    return convert(_times(add(x, y), scale), a.dtype), (scale, a.dtype, b.dtype)


def backward(saved, dy):
    factor, *dtypes = saved
    d = _times(read(dy), factor)
    return tuple(convert(d, dtype) for dtype in dtypes)


def _times(a, c):
    return a if c == 1.0 else scale(a, c)


IMPL = Impl(forward, backward)
