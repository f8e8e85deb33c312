"""Arrays that travel: NumPy's, or CuPy's on a GPU, through page-locked host memory where MPI cannot take them."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np


def namespace(array):
    """The module whose functions work on `array`: NumPy or CuPy."""
    name = type(array).__module__.partition(".")[0]
    if name not in ("numpy", "cupy"):
        raise TypeError(f"parallel: arrays must be NumPy's or CuPy's, got {type(array).__module__}.{type(array).__name__}")
    return sys.modules[name]


def words(array) -> Any:
    """The array as something that MPI, and CuPy's copies, have a type for: numbers of 16 bits as integers."""
    return array.view(np.uint16) if array.dtype.itemsize == 2 else array


def pinned(shape, dtype) -> np.ndarray:
    """Page-locked host memory, from and to which a GPU copies by itself."""
    from cupyx import empty_pinned
    return empty_pinned(shape, np.uint16).view(dtype) if np.dtype(dtype).itemsize == 2 else empty_pinned(shape, dtype)


def to_host(array) -> np.ndarray:
    """A copy of a device array in page-locked memory, complete when this returns."""
    host = pinned(array.shape, array.dtype)
    words(array).get(out=words(host))
    return host


def to_device(host) -> Any:
    """A copy of page-locked memory on the current device, complete when this returns: the memory may be used again."""
    cupy = sys.modules["cupy"]
    array = cupy.empty(host.shape, host.dtype)
    words(array).set(words(host))
    cupy.cuda.get_current_stream().synchronize()
    return array
