"""Sums, products and multiples of whole arrays."""

from __future__ import annotations

from moespec_numba_cuda._arrays import convert, empty, flat, read
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel


def add(a, b):
    """a + b, of one shape and dtype."""
    x, y = read(a), read(b)
    out = empty(x.shape, x.dtype)
    _add(items(x.size), flat(x), flat(y), flat(out))
    return convert(out, a.dtype)


def multiply(a, b):
    """a b, number by number, of one shape and dtype."""
    out = empty(a.shape, a.dtype)
    _multiply(items(a.size), flat(a), flat(b), flat(out))
    return out


def scale(a, c):
    """c a."""
    x = read(a)
    out = empty(x.shape, x.dtype)
    _scale(items(x.size), flat(x), c, flat(out))
    return convert(out, a.dtype)


@kernel("T1 T1 T1")
def _add(x, y, out):
    for i in range(cuda.grid(1), x.shape[0], cuda.gridsize(1)):
        out[i] = x[i] + y[i]


@kernel("T1 T T1")
def _scale(x, c, out):
    for i in range(cuda.grid(1), x.shape[0], cuda.gridsize(1)):
        out[i] = c * x[i]


@kernel("T1 T1 T1")
def _multiply(x, y, out):
    for i in range(cuda.grid(1), x.shape[0], cuda.gridsize(1)):
        out[i] = x[i] * y[i]
