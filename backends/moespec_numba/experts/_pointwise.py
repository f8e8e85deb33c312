"""What the activations share as ops of their own."""

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read
from moespec_numba.experts._activations import NUMBER, value, value_and_slope


def pointwise(name):
    """The implementation of the activation `name`."""
    number = NUMBER[name]

    def forward(x):
        OPS[f"experts.{name}"].admit(x)
        y = empty(x.shape, x.dtype)
        value(number, read(x).reshape(-1), y.reshape(-1))
        return y, x

    def backward(x, dy):
        dx = empty(x.shape, x.dtype)
        _times_slope(number, read(x).reshape(-1), read(dy).reshape(-1), np.empty_like(dx.reshape(-1)), dx.reshape(-1))
        return dx

    return Impl(forward, backward)


@kernel
def _times_slope(kind, x, dy, y, dx):
    value_and_slope(kind, x, y, dx)
    for j in range(len(x)):
        dx[j] *= dy[j]
