"""The launcher: the only place that touches CuPy, and with `_nvmath` nvmath-python."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Protocol

from moespec_cupy._nvmath import GroupedProducts


class Launcher(Protocol):
    """What runs kernels and owns arrays."""

    @property
    def xp(self) -> Any: ...                                      # the array module
    def launch(self, source: str, name: str, grid, args) -> None: ...
    def matmul(self, a, b, out) -> None: ...
    def grouped_matmul(self, a, b, out, bounds, transpose_a, transpose_b) -> bool: ...       # moespec_cupy.experts._products.by_expert
    def capturing(self) -> bool: ...                              # whether the caller's stream is being captured into a graph
    def accept(self, array) -> Any: ...                           # any array of the device as one of xp's, without a copy
    def to_numpy(self, array) -> Any: ...


class CupyLauncher:
    """Runs on the caller's current device and stream, allocates from the caller's pool, waits for nothing."""

    def __init__(self):
        self._modules: dict[str, Any] = {}

    @cached_property
    def xp(self):
        import cupy
        return cupy

    @cached_property
    def options(self):
        """CuPy adds -ftz=true and the architecture; CUDA 12 has the parts of mma.h in two folders."""
        from cuda.pathfinder import find_nvidia_header_directory
        folders = dict.fromkeys(find_nvidia_header_directory(part) for part in ("cudart", "nvcc"))
        return "-std=c++17", *(f"-I{folder}" for folder in folders if folder)

    @cached_property
    def _grouped_products(self):
        return GroupedProducts(self.xp)

    def launch(self, source, name, grid, args):
        if source not in self._modules:
            self._modules[source] = self.xp.RawModule(code=source, options=self.options)
        self._modules[source].get_function(name)((grid.blocks,), (grid.threads,), tuple(args))

    def matmul(self, a, b, out):
        """One two-dimensional product by cuBLAS; in low precision it accumulates in float32."""
        self.xp.matmul(a, b, out=out)

    def grouped_matmul(self, a, b, out, bounds, transpose_a, transpose_b):
        """The products of all experts in one call of cuBLAS; false if it does not take them."""
        return self._grouped_products(a, b, out, bounds, transpose_a, transpose_b)

    def capturing(self):
        return self.xp.cuda.get_current_stream().is_capturing()

    def accept(self, array):
        if isinstance(array, self.xp.ndarray):
            return array
        if hasattr(array, "__dlpack__") and not hasattr(array, "__array_interface__"):
            return self.xp.from_dlpack(array)
        if hasattr(array, "__cuda_array_interface__"):
            return self.xp.asarray(array)
        raise TypeError(f"backend 'cupy' works on arrays of the device, got {type(array).__module__}.{type(array).__name__}: convert it yourself")

    def to_numpy(self, array):
        return self.xp.asnumpy(array)


_launcher: Launcher = CupyLauncher()


def get() -> Launcher:
    """The launcher in force."""
    return _launcher


def install(launcher: Launcher):
    """Use another one in this process; tests emulate the device."""
    global _launcher
    _launcher = launcher
