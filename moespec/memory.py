"""Memory that starts on a cache line."""

from __future__ import annotations

import numpy as np

LINE = 64               # bytes
LARGE = 2**14           # bytes from which it is worth a view


def aligned(shape, dtype, make=np.empty):
    """An array by `make(count, dtype)` whose first element begins a cache line, if it is large.

    NumPy's own large arrays begin 16 bytes after one: every other vector of a row then lies in two lines, and products with few rows
    take a quarter longer.
    """
    array = make(shape, dtype)
    if array.nbytes < LARGE or not _beyond(array):
        return array
    whole = make(array.size + LINE // array.itemsize, dtype)
    start = -_beyond(whole) % LINE // array.itemsize
    return whole[start:start + array.size].reshape(array.shape)


def _beyond(array):
    """Bytes between the start of a cache line and the first element."""
    return array.__array_interface__["data"][0] % LINE
