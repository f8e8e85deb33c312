"""What the activations share as ops of their own."""

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read
from moespec_numba.experts._activations import NUMBER, value, value_and_slope


def pointwise(name):
    """The implementation of the activation `name`."""
    def forward(x):
        OPS[f"experts.{name}"].admit(x)
        return values(name, x), x

    def backward(x, dy):
        slope = values_and_slopes(name, x)[1]
        np.multiply(slope, dy, out=slope)
        return slope

    return Impl(forward, backward)


def values(name, x):
    """f(x), for an array of any shape."""
    y = empty(x.shape, x.dtype)
    _value(NUMBER[name], read(x).reshape(-1), y.reshape(-1))
    return y


def values_and_slopes(name, x):
    """f(x) and f'(x)."""
    y, slope = empty(x.shape, x.dtype), empty(x.shape, x.dtype)
    _value_and_slope(NUMBER[name], read(x).reshape(-1), y.reshape(-1), slope.reshape(-1))
    return y, slope


@kernel
def _value(kind, x, y):
    value(kind, x, y)


@kernel
def _value_and_slope(kind, x, y, slope):
    value_and_slope(kind, x, y, slope)
