"""The backend object; Numba itself is imported when it is first asked for something."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

FAMILIES = ("gates", "dispatch", "experts", "losses")


class NumbaBackend:
    """NumPy arrays in and out; float32 and float64."""

    name = "numba"
    spec_version = "0.1"
    dtypes = frozenset({"float64", "float32"})
    deterministic = True
    host = True
    declares: Mapping[str, Any] = {"compute": "float32", "accumulate": "float32", "rounding": "nearest", "stores": {}}

    def available(self):
        try:
            import numba
        except ImportError as error:
            return False, f"{error}: pip install 'moespec[numba]'"
        return True, f"Numba {numba.__version__}, {platform.machine()}, {numba.get_num_threads()} threads"

    def owns(self, array):
        return isinstance(array, np.ndarray)

    @cache  # noqa: B019 - one object for the life of the process
    def ops(self):
        return {name: impl for family in FAMILIES for name, impl in import_module(f"moespec_numba.{family}").OPS.items()}

    def add(self, a, b):
        return a + b

    def scale(self, a, c):
        return (a * c).astype(a.dtype, copy=False)

    def from_numpy(self, a):
        return a

    def to_numpy(self, a):
        return np.asarray(a)

    def synchronize(self):
        pass


BACKEND = NumbaBackend()
