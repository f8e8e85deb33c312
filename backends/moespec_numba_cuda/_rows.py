"""Small functions of one row, which kernels share."""

from __future__ import annotations

from moespec_numba_cuda._device import device


@device
def total(x):
    """The sum, in ascending order."""
    s = x.dtype.type(0)
    for j in range(len(x)):
        s += x[j]
    return s


@device
def inner(x, y):
    """The inner product, in ascending order."""
    s = x.dtype.type(0)
    for j in range(len(x)):
        s += x[j] * y[j]
    return s


@device
def clear(x):
    for j in range(len(x)):
        x[j] = 0


@device
def legal(e, experts):
    """An id as kernels see it: one out of range is nobody."""
    return e if 0 <= e < experts else -1
