"""The Numba-CUDA backend: every operation by kernels in Python, on an NVIDIA GPU or in Numba's simulator."""

from moespec_numba_cuda._backend import BACKEND

__all__ = ["BACKEND"]
