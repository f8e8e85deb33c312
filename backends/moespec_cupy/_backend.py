"""The backend object; CuPy itself is imported when it is first asked for something."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from moespec.program import Impl
from moespec_cupy import _admit, _launcher, _options
from moespec_cupy._nvmath import HOW_TO_GET

HOW_TO_GET_CUPY = "pip install 'moespec[cupy-cuda13]' (or cupy-cuda12)"
FAMILIES = ("gates", "dispatch", "experts", "losses")

# What goes through memory between two products is in the dtype of the rows, as tensor cores take it.
STORES = {
    "experts.glu": dict.fromkeys(("g", "u", "h", "dropped", "dg", "du"), "dtype"),
    "experts.ffn": dict.fromkeys(("g", "h", "dropped", "dg"), "dtype"),
    "experts.moe": dict.fromkeys(("g", "u", "h", "dg", "du", "y", "dy", "dx"), "dtype"),
}
STORES["experts.moe_block"] = STORES["experts.moe"]                     # which is its last step
LOOP = dict.fromkeys(("dh", "dx_gate", "dx_up", "dx"), "dtype")         # and this in addition, if products are calls of their own


class CupyBackend:
    """CuPy arrays in and out, on the caller's current device, stream and memory pool; float64, float32, float16 and bfloat16."""

    name = "cupy"
    spec_version = "0.1"
    dtypes = frozenset({"float64", "float32", "float16", "bfloat16"})
    deterministic = True
    host = False
    execution = "real"
    _device: str | None = None         # what is ready stays so: every call of a layer asks

    @property
    def declares(self) -> Mapping[str, Any]:
        stores = STORES if self.gemm == "tile" else {op: {**points, **LOOP} for op, points in STORES.items()}
        return {"compute": "float32", "accumulate": "float32", "rounding": "nearest", "stores": stores}

    def available(self):
        if self._device is None:
            ready, told = _find_device()
            if not ready:
                return False, told
            self._device = told
        if self.gemm == "nvmath" and "nvmath" not in sys.modules and find_spec("nvmath") is None:
            return False, f"gemm='nvmath' needs nvmath-python: {HOW_TO_GET}"
        return True, f"{self._device}, products by {self.gemm}"

    def owns(self, array):
        cupy = sys.modules.get("cupy")
        return cupy is not None and isinstance(array, cupy.ndarray)

    @cache  # noqa: B019 - one object for the life of the process
    def ops(self):
        return {name: accepting(impl) for family in FAMILIES for name, impl in import_module(f"moespec_cupy.{family}").OPS.items()}

    @property
    def gemm(self):
        """How products of experts are computed: "tile", "loop" or "nvmath"; by default what MOESPEC_CUPY_GEMM says, else tile."""
        return _options.gemm()

    @gemm.setter
    def gemm(self, way):
        _options.choose_gemm(way)

    @property
    def validate(self):
        """Whether wrong values are refused too, at the price of waiting for the device."""
        return _admit.validate

    @validate.setter
    def validate(self, value):
        _admit.validate = value

    def add(self, a, b):
        return a + b

    def scale(self, a, c):
        return (a * c).astype(a.dtype, copy=False)

    def from_numpy(self, a):
        return _launcher.get().xp.asarray(a)

    def to_numpy(self, a):
        return np.asarray(_launcher.get().to_numpy(a))

    def synchronize(self):
        _launcher.get().xp.cuda.get_current_stream().synchronize()


def _find_device():
    """Whether CuPy is installed and has a device, and which."""
    if find_spec("cupy") is None:
        return False, f"not installed: {HOW_TO_GET_CUPY}"
    try:
        import cupy
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:        # a missing driver or library is told in many ways, ImportError is the rarest
        return False, f"installed, no device ({str(error).strip().splitlines()[0]})"
    if not count:
        return False, "installed, no device (none is visible)"
    try:
        cupy.cuda.nvrtc.getVersion()
    except Exception as error:
        return False, f"installed, no compiler for the device ({str(error).strip().splitlines()[0]}): {HOW_TO_GET_CUPY}"
    device = cupy.cuda.Device()
    name = cupy.cuda.runtime.getDeviceProperties(device.id)["name"].decode()
    return True, f"{name}, compute capability {device.compute_capability}, CuPy {cupy.__version__}"


def accepting(impl):
    """`impl` for any array of the device: what speaks DLPack or the CUDA array interface is taken without a copy."""
    def taken(arrays):
        return [None if a is None else _launcher.get().accept(a) for a in arrays]

    def forward(*inputs, **attrs):
        return impl.forward(*taken(inputs), **attrs)

    def backward(saved, *cotangents):
        return impl.backward(saved, *taken(cotangents))

    return Impl(forward, None if impl.backward is None else backward, impl.supports)


BACKEND = CupyBackend()
