"""What the activations share as ops of their own."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import empty, flat, like, read
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda.experts._activations import NUMBER, slope, value


def pointwise(name):
    """The implementation of the activation `name`."""
    def forward(x):
        admit(f"experts.{name}", x)
        return like(x, values(name, read(x))), x

    def backward(x, dy):
        return like(x, through(name, read(x), read(dy)))

    return Impl(forward, backward)


def values(name, x):
    """f(x), for an array of any shape."""
    y = empty(x.shape, x.dtype)
    _value(items(x.size), NUMBER[name], flat(x), flat(y))
    return y


def through(name, x, dy):
    """f'(x) dy."""
    dx = empty(x.shape, x.dtype)
    _through(items(x.size), NUMBER[name], flat(x), flat(dy), flat(dx))
    return dx


@kernel("i T1 T1")
def _value(kind, x, y):
    for i in range(cuda.grid(1), len(x), cuda.gridsize(1)):
        y[i] = value(kind, x[i])


@kernel("i T1 T1 T1")
def _through(kind, x, dy, dx):
    for i in range(cuda.grid(1), len(x), cuda.gridsize(1)):
        dx[i] = slope(kind, x[i]) * dy[i]
