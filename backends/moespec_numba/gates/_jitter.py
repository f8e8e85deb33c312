"""gates.jitter."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read


class Saved(NamedTuple):
    noise: np.ndarray       # T D
    dtype: np.dtype


def forward(x, noise):
    OPS["gates.jitter"].admit(x, noise)
    return times(x, noise, x.dtype), Saved(noise, x.dtype)


def backward(saved, dy):
    return times(dy, saved.noise, saved.dtype)


def times(a, b, dtype):
    """a b elementwise, computed in the wider dtype and rounded to `dtype`."""
    y = empty(a.shape, dtype)
    _times(read(a).ravel(), read(b).ravel(), y.ravel())
    return y


@kernel
def _times(a, b, y):
    for i in range(len(a)):
        y[i] = a[i] * b[i]


IMPL = Impl(forward, backward)
