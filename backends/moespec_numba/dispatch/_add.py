"""dispatch.add."""

from typing import NamedTuple

from numba import prange

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read


class Saved(NamedTuple):
    scale: float
    dtypes: tuple           # of a, of b


def forward(a, b, *, scale=1.0):
    OPS["dispatch.add"].admit(a, b, scale=scale)
    y = empty(a.shape, a.dtype)
    _add(read(a), read(b), a.dtype.type(scale), y)
    return y, Saved(scale, (a.dtype, b.dtype))


def backward(saved, dy):
    return tuple((dy * dy.dtype.type(saved.scale)).astype(dtype, copy=False) for dtype in saved.dtypes)


@kernel(parallel=True)
def _add(a, b, scale, y):
    for t in prange(len(a)):
        _add_row(a[t], b[t], scale, y[t])


@kernel(entry=False)
def _add_row(a, b, scale, y):
    for d in range(len(y)):
        y[d] = (a[d] + b[d]) * scale


IMPL = Impl(forward, backward)
