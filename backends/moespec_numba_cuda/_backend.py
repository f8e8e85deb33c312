"""The backend object; Numba itself is imported when it is first asked for something."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from moespec.program import Impl
from moespec_numba_cuda._dlpack import comes_by_dlpack

FAMILIES = ("gates", "dispatch", "experts", "losses")


class NumbaCudaBackend:
    """Arrays of the device in, Numba's device arrays out, on the stream of `using`; half precision is computed in float32."""

    name = "numba-cuda"
    spec_version = "0.1"
    dtypes = frozenset({"float64", "float32", "float16", "bfloat16"})
    deterministic = True
    host = False
    declares: Mapping[str, Any] = {"compute": "float32", "accumulate": "float32", "rounding": "nearest", "stores": {}}
    validate = False                    # whether wrong values are refused too, at the price of waiting for the device

    @property
    def execution(self):
        """Real, or emulated: in Numba's simulator, which is chosen by NUMBA_ENABLE_CUDASIM=1 before Numba is imported."""
        return "emulated" if os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0") else "real"

    def available(self):
        if find_spec("numba") is None:
            return False, "not installed: pip install 'moespec[numba-cuda13]' (or numba-cuda12)"
        try:
            import numba
            from numba import cuda
            ready = cuda.is_available()
        except Exception as error:        # numba-cuda without a CUDA runtime raises a RuntimeError when it is imported
            return False, f"installed, cannot be imported ({str(error).strip().splitlines()[0]})"
        if self.execution == "emulated":
            return True, f"Numba's simulator, Numba {numba.__version__}"
        if not ready:
            reason = str(cuda.cuda_error()).replace("\\n", "\n").strip().splitlines()
            return False, f"installed, no device ({next((line for line in reason if line.strip()), 'none is visible')})"
        device = cuda.get_current_device()
        name = device.name.decode() if isinstance(device.name, bytes) else device.name
        return True, f"{name}, compute capability {'.'.join(map(str, device.compute_capability))}, Numba {numba.__version__}"

    def owns(self, array):
        return any(hasattr(array, name) for name in ("copy_to_host", "__cuda_array_interface__")) or comes_by_dlpack(array)

    @cache  # noqa: B019 - one object for the life of the process
    def ops(self):
        return {name: accepting(impl) for family in FAMILIES for name, impl in import_module(f"moespec_numba_cuda.{family}").OPS.items()}

    def using(self, given):
        """Everything inside is queued on `given`, a stream of Numba, CuPy or torch: `with BACKEND.using(stream):`."""
        from moespec_numba_cuda._device import using
        return using(given)

    def add(self, a, b):
        from moespec_numba_cuda._arithmetic import add
        return add(a, b)

    def scale(self, a, c):
        from moespec_numba_cuda._arithmetic import scale
        return scale(a, c)

    def from_numpy(self, a):
        from moespec_numba_cuda._device import cuda, stream
        return cuda.to_device(np.array(a, order="C"), stream=stream())

    def to_numpy(self, a):
        from moespec_numba_cuda._device import stream
        return a.copy_to_host(stream=stream()) if hasattr(a, "copy_to_host") else np.asarray(a)

    def synchronize(self):
        from moespec_numba_cuda._device import cuda
        cuda.synchronize()


def accepting(impl):
    """`impl` for any array of the device: by the CUDA array interface or DLPack, without a copy; NumPy's are refused."""
    from moespec_numba_cuda._arrays import accept

    def forward(*inputs, **attrs):
        return impl.forward(*map(accept, inputs), **attrs)

    def backward(saved, *cotangents):
        return impl.backward(saved, *map(accept, cotangents))

    return Impl(forward, None if impl.backward is None else backward, impl.supports)


BACKEND = NumbaCudaBackend()
