"""Numba's CUDA target: what there is, the stream, and what every kernel file imports from here."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from numba import config, cuda

__all__ = ["SIMULATED", "cuda", "device", "stream", "using"]

SIMULATED = bool(config.ENABLE_CUDASIM)
if SIMULATED:
    import moespec_numba_cuda._simulator  # noqa: F401

_stream: ContextVar[Any] = ContextVar("stream", default=0)


def stream():
    """The stream that kernels and copies are given: Numba's default one, or that of `using`."""
    return _stream.get()


@contextmanager
def using(given):
    """Run everything inside on `given`: a stream of Numba, or of CuPy or torch (what has `ptr` or `cuda_stream`)."""
    pointer = getattr(given, "ptr", getattr(given, "cuda_stream", None))
    token = _stream.set(given if pointer is None else pointer and cuda.external_stream(pointer))     # 0 is Numba's default one
    try:
        yield
    finally:
        _stream.reset(token)


def device(function):
    """A function that kernels call.  In the simulator it is what it is, unless it asks where it runs: a call there costs a swap of modules."""
    if SIMULATED and "cuda" not in function.__code__.co_names:
        return function
    return cuda.jit(device=True)(function)
