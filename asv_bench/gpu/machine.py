"""What differs between a GPU and a dry run: where arrays come from, what a time is, and what memory is."""

from __future__ import annotations

import sys
from time import perf_counter

import ml_dtypes  # noqa: F401  (teaches NumPy the name "bfloat16")
import numpy as np


class Gpu:
    """The current device."""

    execution = "real"

    def __init__(self):
        import cupy

        from moespec_cupy import BACKEND
        self.cupy, self.backend, self.pool = cupy, BACKEND, cupy.get_default_memory_pool()
        cupy.random.seed(0)

    def normal(self, shape, dtype, scale=1.0):
        values = self.cupy.random.standard_normal(shape, dtype=np.float32)
        values *= np.float32(scale)
        return values.astype(np.dtype(dtype), copy=False)

    def milliseconds(self, function, calls=1):
        """Of one call, by events on the stream."""
        start, stop = self.cupy.cuda.Event(), self.cupy.cuda.Event()
        start.record()
        for _ in range(calls):
            function()
        stop.record()
        stop.synchronize()
        return self.cupy.cuda.get_elapsed_time(start, stop) / calls

    def peak(self, function):
        """Bytes of the pool in use at most, beyond what was in use before."""
        pool, before = self.pool, self.pool.used_bytes()

        class Highest(self.cupy.cuda.MemoryHook):
            name, most = "highest", 0

            def malloc_postprocess(self, **kwargs):
                Highest.most = max(Highest.most, pool.used_bytes() - before)

        with Highest():
            function()
        return Highest.most

    def stream(self):
        return self.cupy.cuda.get_current_stream()

    def to_numba(self, array):
        """For the Numba-CUDA backend, which takes what has the CUDA array interface."""
        return array

    def memory_for_numba(self, shape, dtype):
        """Of CuPy's pool."""
        from numba import cuda
        return cuda.as_cuda_array(self.cupy.empty(shape, dtype), sync=False)

    def bare_launch(self, array):
        """A function: launches a kernel that does next to nothing."""
        nothing = self.cupy.RawKernel('extern "C" __global__ void nothing(float *x) { x[0] = 0; }', "nothing")
        return lambda: nothing((1,), (1,), (array,))

    def tidy(self):
        """Gives back what nobody uses."""
        self.pool.free_all_blocks()
        if torch := sys.modules.get("torch"):
            torch.cuda.empty_cache()

    def torch_device(self, torch):
        """Where torch computes, or None and the reason."""
        if not torch.cuda.is_available():
            return None, f"torch {torch.__version__} finds no CUDA device"
        return "cuda", ""

    def to_torch(self, torch, array):
        return torch.from_dlpack(array)


class DryRun:
    """NumPy arrays, kernels executed by the emulation, the clock of the host: its figures mean nothing."""

    execution = "dry run"

    def __init__(self):
        from cupy_emulated import BACKEND
        self.backend, self._rng = BACKEND, np.random.default_rng(0)

    def normal(self, shape, dtype, scale=1.0):
        return self.backend.from_numpy((self._rng.standard_normal(shape) * scale).astype(dtype))

    def milliseconds(self, function, calls=1):
        start = perf_counter()
        for _ in range(calls):
            function()
        return 1e3 * (perf_counter() - start) / calls

    def peak(self, function):
        function()
        return 0

    def stream(self):
        return 0

    def to_numba(self, array):
        from moespec_numba_cuda import BACKEND
        return BACKEND.from_numpy(self.backend.to_numpy(array))

    def memory_for_numba(self, shape, dtype):
        from numba import cuda
        return cuda.device_array(shape, dtype)

    def bare_launch(self, array):
        return lambda: array.fill(0)

    def tidy(self):
        pass

    def torch_device(self, torch):
        return "cpu", ""

    def to_torch(self, torch, array):
        host = self.backend.to_numpy(array)
        return torch.from_numpy(host.astype("float32")).to(getattr(torch, host.dtype.name))


def machine(dry_run):
    return DryRun() if dry_run else Gpu()
