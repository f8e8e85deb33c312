"""The CuPy backend: every operation on an NVIDIA GPU, by kernels of its own."""

from moespec_cupy._backend import BACKEND, CupyBackend

__all__ = ["BACKEND", "CupyBackend"]
