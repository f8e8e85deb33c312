"""Elementwise arithmetic on arrays of two dtypes."""

from moespec_cupy._kernel import Kernels, empty, items, read

KERNELS = Kernels(__file__, "_elementwise.cu")


def cast(a, dtype):
    """A copy of `a`, rounded once to `dtype`; `a` itself where it has that dtype."""
    if a.dtype == dtype:
        return a
    y = empty(a.shape, dtype)
    KERNELS("cast", items(a.size), read(a), y, a.size)
    return y


def multiply(a, b):
    """a b in the dtype of `a`."""
    y = empty(a.shape, a.dtype)
    KERNELS("multiply", items(a.size), read(a), read(b), y, a.size)
    return y


def add(a, b, scale=1.0):
    """a + scale b in the dtype of `a`."""
    y = empty(a.shape, a.dtype)
    KERNELS("add_scaled", items(a.size), read(a), read(b), y, a.size, scale)
    return y


def add_row(a, b):
    """a + b with one row b, in the dtype of `a`."""
    return _by_row("add_row", a, b)


def multiply_row(a, b):
    """a b with one row b, or one number, in the dtype of `a`."""
    return _by_row("multiply_row", a, b)


def _by_row(kernel, a, b):
    y = empty(a.shape, a.dtype)
    KERNELS(kernel, items(a.size), read(a), read(b), y, a.size, b.size)
    return y
