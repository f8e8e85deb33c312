"""Memory that starts on a cache line."""

from __future__ import annotations

from math import prod

import numpy as np

LINE = 64               # bytes
LARGE = 2**14           # bytes from which it is worth a view


def aligned(shape, dtype, make=np.empty):
    """An array by `make(count, dtype)` whose first element begins a cache line, if it is large.

    NumPy's own large arrays begin 16 bytes after one: every other vector of a row then lies in two lines, and products with few rows
    take a quarter longer.
    """
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    dtype, count = np.dtype(dtype), prod(shape)
    if count * dtype.itemsize < LARGE:
        return make(shape, dtype)
    whole = make(count + LINE // dtype.itemsize, dtype)
    start = -whole.__array_interface__["data"][0] % LINE // dtype.itemsize
    return whole[start:start + count].reshape(shape)
