"""Kernels with stated signatures, compiled when first launched.

``@kernel("T2 i1 T")`` states the parameters: arrays of a dtype and so many dimensions, C-contiguous, and numbers.  T is float32 or
float64, the same one throughout; the other letters are in `LETTERS`.  Kernels stride over the grid, so that any number of threads will do:
``for t in range(cuda.grid(1), len(x), cuda.gridsize(1))``.
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from numba import types

from moespec_numba_cuda._device import SIMULATED, cuda, stream

LETTERS = {"i": "int64", "b": "bool", "f": "float32", "d": "float64", "e": "float16", "h": "uint16", "w": "uint32",
           "j": "int32", "k": "uint64", "s": "int16", "c": "int8", "u": "uint8"}
REAL = ("float32", "float64")
KERNELS: list[Kernel] = []              # every one that was declared: tests compile them all

THREADS = 4 if SIMULATED else 128       # of a block; at a barrier a simulated thread is a thread of the system
MOST = 2 if SIMULATED else 1 << 16      # blocks


class Grid(NamedTuple):
    """A launch: so many blocks of so many threads."""

    blocks: int
    threads: int


def items(n):
    """One thread an item."""
    return Grid(min(-(-n // THREADS), MOST), THREADS)


def blocks(n, threads=THREADS):
    """One block an item."""
    return Grid(min(n, MOST), threads)


class Parameter(NamedTuple):
    """What a kernel takes in one place: the letter of its dtype, and its dimensions; a number has None."""

    letter: str
    ndim: int | None
    layout: str = "C"

    def dtype(self, t):
        return np.dtype(t if self.letter == "T" else LETTERS[self.letter])

    def type(self, t):
        """As Numba names it."""
        scalar = getattr(types, "boolean" if self.letter == "b" else self.dtype(t).name)
        return scalar if self.ndim is None else types.Array(scalar, self.ndim, self.layout)


class Kernel:
    """A kernel for every T; calling it launches it on the stream of `using`."""

    def __init__(self, function, declared):
        self.function, self.name, self.declared = function, function.__name__, declared
        self.parameters = tuple(Parameter(p[0], int(p[1]) if p[1:] else None, p[2:] or "C") for p in declared.split())
        self._compiled: dict[str, object] = {}
        KERNELS.append(self)

    @property
    def dtypes(self):
        """The dtypes that T can be."""
        return REAL if any(p.letter == "T" for p in self.parameters) else ("float32",)

    def signature(self, t):
        """What Numba compiles it for."""
        return types.void(*(p.type(t) for p in self.parameters))

    def __call__(self, grid, *args):
        if len(args) != len(self.parameters):
            raise TypeError(f"kernel {self.name} takes {len(self.parameters)} arguments, got {len(args)}")
        t = next((np.dtype(a.dtype).name for p, a in zip(self.parameters, args, strict=True) if p.letter == "T" and p.ndim is not None), "float32")
        handed = [self._handed(p, a, t) for p, a in zip(self.parameters, args, strict=True)]
        if grid.blocks > 0:
            if t not in self._compiled:
                self._compiled[t] = cuda.jit([self.signature(t)])(self.function)
            with _quiet():
                self._compiled[t][grid.blocks, grid.threads, stream()](*handed)  # type: ignore[index]

    def _handed(self, parameter, argument, t):
        dtype = parameter.dtype(t)
        if parameter.ndim is None:
            return dtype.type(argument)
        if np.dtype(argument.dtype) != dtype or len(argument.shape) != parameter.ndim or (
                parameter.layout == "C" and not argument.is_c_contiguous()):
            raise TypeError(f"kernel {self.name} wants a C-contiguous array of {dtype} with {parameter.ndim} dimensions, "
                            f"got {argument.dtype} with shape {tuple(argument.shape)}")
        return argument


def kernel(declared):
    """Declare a kernel; see the top of this file."""
    return lambda function: Kernel(function, declared)


@contextmanager
def _quiet():
    """On a device infinities and NaN arise silently; the simulator computes with NumPy's numbers, in threads of its own."""
    if not SIMULATED:
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield
