"""A part of the launcher: the products of a group in one call of cuBLAS, which nvmath-python binds."""

from __future__ import annotations

from importlib import import_module
from itertools import pairwise
from threading import get_ident
from typing import Any

import numpy as np

HOW_TO_GET = "pip install 'moespec[nvmath-cuda13]' (or nvmath-cuda12)"
TYPES = {"float16": "CUDA_R_16F", "bfloat16": "CUDA_R_16BF", "float32": "CUDA_R_32F", "float64": "CUDA_R_64F"}
ALIGNED = 16                    # bytes, of matrices in low precision


class GroupedProducts:
    """cublasGemmGroupedBatchedEx, for arrays of `xp`: sizes are on the host, pointers on the device."""

    def __init__(self, xp):
        try:
            self.nvmath, self.cublas = import_module("nvmath"), import_module("nvmath.bindings.cublas")
        except ModuleNotFoundError:
            raise ModuleNotFoundError(f"gemm='nvmath' needs nvmath-python: {HOW_TO_GET}") from None
        self.xp = xp
        self._handles: dict[tuple[int, int], Any] = {}

    def __call__(self, a, b, out, bounds, transpose_a, transpose_b):
        """See `moespec_cupy.experts._products.by_expert`; false, and nothing done, for what cuBLAS does not take."""
        live = [(e, start, stop - start) for e, (start, stop) in enumerate(pairwise(bounds)) if stop > start]
        arrays, groups = (b, a, out), len(live)           # columns are cuBLAS's rows: it computes the transpose, b first
        pointers = np.array([_pointers(array, live) for array in arrays], np.uint64)
        if not all(map(_taken, arrays, pointers)):
            return False
        if not live:
            return True
        sizes = [size for _, _, size in live]
        m, n = [out.shape[-1]] * groups, sizes if out.ndim == 2 else [out.shape[1]] * groups
        k = sizes if transpose_a else [a.shape[-1]] * groups
        ones, zeros = (np.full(groups, value, "float64" if out.dtype == np.float64 else "float32") for value in (1, 0))
        table = self.xp.asarray(pointers)
        at = [table.data.ptr + i * pointers.strides[0] for i in range(3)]
        leading = [[array.shape[-1]] * groups for array in arrays]
        kind = int(getattr(self.nvmath.CudaDataType, TYPES[np.dtype(out.dtype).name]))
        compute = self.cublas.ComputeType.COMPUTE_64F if out.dtype == np.float64 else self.cublas.ComputeType.COMPUTE_32F
        self.cublas.gemm_grouped_batched_ex(
            self._handle(), [self._operation(transpose_b)] * groups, [self._operation(transpose_a)] * groups, m, n, k, ones.ctypes.data,
            at[0], kind, leading[0], at[1], kind, leading[1], zeros.ctypes.data, at[2], kind, leading[2], groups, [1] * groups, int(compute))
        return True

    def _operation(self, transpose):
        return int(self.cublas.Operation.T if transpose else self.cublas.Operation.N)

    def _handle(self):
        """This thread's, on the caller's current device and stream."""
        cuda = self.xp.cuda
        owner = get_ident(), cuda.get_device_id()
        if owner not in self._handles:
            self._handles[owner] = self.cublas.create()
        self.cublas.set_stream(self._handles[owner], cuda.get_current_stream().ptr)
        return self._handles[owner]


def _pointers(array, live):
    """Where the matrix of every expert begins: after its first row in an array [N, .], at its place in [E, ., .]."""
    step = array.dtype.itemsize * int(np.prod(array.shape[1:], dtype=np.int64))
    return [array.data.ptr + step * (start if array.ndim == 2 else e) for e, start, _ in live]


def _taken(array, pointers):
    if 0 in array.shape[1:]:
        return False
    return array.dtype.itemsize > 2 or not ((pointers % ALIGNED).any() or array.shape[-1] * array.dtype.itemsize % ALIGNED)
