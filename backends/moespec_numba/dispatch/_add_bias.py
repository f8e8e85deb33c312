"""dispatch.add_bias."""

from typing import NamedTuple

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read, zeros
from moespec_numba._vector import add_scaled


class Saved(NamedTuple):
    dtypes: tuple           # of x, of b


def forward(x, b):
    OPS["dispatch.add_bias"].admit(x, b)
    y = empty(x.shape, x.dtype)
    _add_bias(read(x), read(b), y)
    return y, Saved((x.dtype, b.dtype))


def backward(saved, dy):
    total = zeros(dy.shape[1], "float64")
    _add_up(read(dy), total)
    return dy.astype(saved.dtypes[0]), total.astype(saved.dtypes[1])


@kernel
def _add_bias(x, b, y):
    for t in range(len(x)):
        for d in range(len(b)):
            y[t, d] = x[t, d] + b[d]


@kernel
def _add_up(dy, total):
    for t in range(len(dy)):
        add_scaled(total, 1.0, dy[t])


IMPL = Impl(forward, backward)
