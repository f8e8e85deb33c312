"""The Numba backend: every operation on the CPU by compiled kernels of its own, matrix products by BLAS."""

from moespec_numba._backend import BACKEND, NumbaBackend

__all__ = ["BACKEND", "NumbaBackend"]
