"""gates.jitter."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import common, convert, empty, flat
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel


def forward(x, noise):
    admit("gates.jitter", x, noise)
    return convert(times(*common(x, noise)), x.dtype), (noise, x.dtype)


def backward(saved, dy):
    noise, dtype = saved
    return convert(times(*common(dy, noise)), dtype)


def times(a, b):
    """The products of elements, of one shape and dtype."""
    y = empty(a.shape, a.dtype)
    _times(items(a.size), flat(a), flat(b), flat(y))
    return y


@kernel("T1 T1 T1")
def _times(a, b, y):
    for i in range(cuda.grid(1), len(a), cuda.gridsize(1)):
        y[i] = a[i] * b[i]


IMPL = Impl(forward, backward)
