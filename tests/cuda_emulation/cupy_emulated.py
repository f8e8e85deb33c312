"""The CuPy backend without a GPU: its host code on NumPy, its kernel texts executed by g++ and fibers.

It is named for what it is; that something passes here is no statement about a GPU.  ``MOESPEC_EMULATED_ORDER=backwards`` runs the
threads of every block, and the blocks, in the opposite order; ``MOESPEC_EMULATED_STRICT=0`` lets host code read what is on the device.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np

from moespec_cupy import CupyBackend, _launcher

HERE = Path(__file__).parent
# Every text has shared memory of its own, also where two of them call it alike: hence no unique symbols.
FLAGS = ("-std=c++17", "-O1", "-shared", "-fPIC", "-fno-gnu-unique", "-w", "-U_FORTIFY_SOURCE", "-ffp-contract=off", f"-I{HERE}")
CACHE = Path(os.environ.get("MOESPEC_EMULATED_CACHE", Path(tempfile.gettempdir()) / f"moespec-emulated-{os.getuid()}"))


class Waits(RuntimeError):
    """On a GPU the host would wait here for the device."""


def _waits(self, *args, **kwargs):
    raise Waits("host code reads a value of the device")


class DeviceArray(np.ndarray):
    """An array of which host code sees the shape and the dtype only, and that only `xp` works on."""

    __bool__ = __int__ = __float__ = __index__ = __iter__ = __array_function__ = _waits
    item = tolist = nonzero = _waits

    def __getitem__(self, key):
        keys = key if isinstance(key, tuple) else (key,)
        if any(isinstance(k, (np.ndarray, list)) for k in keys):
            raise Waits("a mask or an index array: use a kernel")
        found = super().__getitem__(key)
        return found if isinstance(found, np.ndarray) else np.asarray(found).view(DeviceArray)

    def __array_wrap__(self, array, context=None, return_scalar=False):
        return array.view(DeviceArray)                   # a scalar stays on the device as well


class DeviceModule:
    """What host code may ask of `xp`."""

    def __getattr__(self, name):
        if name not in ("empty", "zeros", "ones", "full", "arange", "asarray", "ascontiguousarray", "ndarray"):
            raise AttributeError(f"the emulated xp has no {name}")
        if name == "ndarray":
            return DeviceArray

        def function(*args, **kwargs):
            args = [a.view(np.ndarray) if isinstance(a, np.ndarray) else a for a in args]
            return getattr(np, name)(*args, **kwargs).view(DeviceArray)

        return function


def compiled(path, *arguments, text=None):
    """Has g++ write this file, unless it is there; nobody sees half of one."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as room:
        done = subprocess.run(["g++", *arguments, *FLAGS, "-o", f"{room}/done"], input=text, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"g++ refuses a kernel text: {done.stderr}")
        os.replace(f"{room}/done", path)


class EmulatedLauncher:
    """Compiles a text with g++ when one of its kernels is first launched, and keeps it by the hash of all that went in.

    `strict`: host code that would wait for a device raises `Waits`.
    """

    def __init__(self, backwards=False, strict=True):
        self.backwards, self.strict = backwards, strict
        self.xp = DeviceModule() if strict else np
        self._libraries: dict[str, ctypes.CDLL] = {}

    @cached_property
    def _harness(self):
        return b"".join(p.read_bytes() for p in sorted(HERE.glob("*.h"))) + repr(FLAGS).encode()

    @cached_property
    def _prepared(self):
        """A folder where g++ finds the header of the harness as it has read it once."""
        path = CACHE / hashlib.sha256(self._harness).hexdigest()[:32] / "cuda_on_cpu.h.gch"
        compiled(path, "-x", "c++-header", str(HERE / "cuda_on_cpu.h"))
        return path.parent

    def launch(self, source, name, grid, args):
        if source not in self._libraries:
            self._libraries[source] = self._compiled(source)
        pointers = (ctypes.c_void_p * len(args))()
        kept = [np.array(a.ctypes.data, np.uint64) if isinstance(a, np.ndarray) else np.array(a) for a in args]
        for i, a in enumerate(kept):
            pointers[i] = a.ctypes.data
        if self._libraries[source][f"launch_{name}"](pointers, grid.blocks, grid.threads, int(self.backwards)):
            raise RuntimeError(f"kernel {name}: some threads wait at a barrier that others do not reach")

    def _compiled(self, source):
        names = re.findall(r"^KERNEL (\w+)\(", source, re.MULTILINE)
        entries = "".join(f'extern "C" int launch_{n}(void **a, unsigned blocks, unsigned threads, int backwards) '
                          f"{{ return emulation::launch({n}, a, blocks, threads, backwards); }}\n" for n in names)
        text = f'#include "cuda_on_cpu.h"\n{source}\n{entries}'
        path = CACHE / f"{hashlib.sha256(self._harness + text.encode()).hexdigest()[:32]}.so"
        compiled(path, f"-I{self._prepared}", "-x", "c++", "-", text=text)
        return ctypes.CDLL(str(path))

    def matmul(self, a, b, out):
        """As cuBLAS: products and sums in the accumulation dtype, rounded once."""
        wide = np.float64 if out.dtype == np.float64 else np.float32
        a, b, out = (x.view(np.ndarray) for x in (a, b, out))
        out[...] = (a.astype(wide) @ b.astype(wide)).astype(out.dtype)

    def grouped_matmul(self, a, b, out, bounds, transpose_a, transpose_b):
        """Every matrix of a group, by its own rows or its own place; as cuBLAS, not in low precision unless it lies on 16 bytes."""
        arrays = [x.view(np.ndarray) for x in (a, b, out)]
        if any(x.shape[-1] * x.itemsize % 16 for x in arrays if x.itemsize == 2):
            return False
        for e, (start, stop) in enumerate(pairwise(bounds)):
            if stop > start:
                left, right, to = (x[start:stop] if x.ndim == 2 else x[e] for x in arrays)
                self.matmul(left.T if transpose_a else left, right.T if transpose_b else right, to)
        return True

    def capturing(self):
        return False

    def accept(self, array):
        return self.xp.asarray(array)

    def to_numpy(self, array):
        return np.asarray(array).view(np.ndarray)


class EmulatedBackend(CupyBackend):
    """The same operations; another launcher."""

    name = "cupy-emulated"
    execution = "emulated"

    def available(self):
        compiler = shutil.which("g++")
        return (True, "kernels executed on the CPU by g++, not by a GPU") if compiler else (False, "g++ is not installed")

    def owns(self, array):
        return isinstance(array, np.ndarray)

    def synchronize(self):
        pass


_launcher.install(EmulatedLauncher(os.environ.get("MOESPEC_EMULATED_ORDER") == "backwards", os.environ.get("MOESPEC_EMULATED_STRICT", "1") == "1"))
BACKEND = EmulatedBackend()
