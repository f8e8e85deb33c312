"""What every op here is written with: kernels by name, and memory.

The host code knows no array library: `xp` is the one that the launcher works on, CuPy or, in tests without a GPU, NumPy.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from moespec_cupy import _launcher
from moespec_cupy._source import FIXED, accumulation, compose, signatures

__all__ = ["BLOCK", "Grid", "Kernels", "accumulation", "columns", "empty", "full", "items", "one_block", "read", "rows", "threads", "zeros"]

MOST = 1 << 16                # blocks of one launch; kernels stride over the rest
WARP = 32
BLOCK = 512                   # threads of a block at most: more would leave each fewer registers than float64 takes


class Grid(NamedTuple):
    """A launch: so many blocks of so many threads."""

    blocks: int
    threads: int


def items(n, threads=256):
    """One thread an item."""
    return Grid(min(-(-n // threads), MOST), threads)


def rows(n, warps=4):
    """One warp a row."""
    return Grid(min(-(-n // warps), MOST), warps * WARP)


def columns(n, work):
    """One block for 32 columns of so many rows each, as columns.cuh takes them."""
    return Grid(items(n, WARP).blocks, threads(WARP * work))


def one_block(work=BLOCK):
    """What has to be done in one place, in so many items."""
    return Grid(1, threads(work))


def threads(work, most=BLOCK):
    """Of a block that does so many items: whole warps."""
    return max(WARP, min(most, -(-work // WARP) * WARP))


class Kernels:
    """The kernels of the text `name`, which lies beside the file `beside`.

    ``KERNELS("softmax", rows(tokens), x, y, tokens, experts)`` runs one on the caller's stream.  Arrays must be C-contiguous and
    of the dtypes that the parameters say; None is a null pointer, an int an i64, a float an A.  An empty grid does nothing.
    """

    def __init__(self, beside, name):
        self.path = Path(beside).with_name(name).resolve()

    def __call__(self, name, grid, *args):
        parameters = signatures(self.path)[name]
        if len(args) != len(parameters):
            raise TypeError(f"kernel {name} takes {len(parameters)} arguments, got {len(args)}")
        types = _types(name, parameters, args)
        if grid.blocks > 0:
            source = compose(self.path, name_of(types["T"]), name_of(types["U"]))
            _launcher.get().launch(source, name, grid, [_marshal(name, p, a, types) for p, a in zip(parameters, args, strict=True)])


@cache
def name_of(dtype):
    """NumPy puts a name together whenever it is asked for one."""
    return dtype.name


def _types(name, parameters, args):
    """What T, U and A are in this call, from the arrays."""
    types: dict[str, np.dtype] = {}
    for p, a in zip(parameters, args, strict=True):
        if p.pointer and p.type in ("T", "U", "A") and a is not None and types.setdefault(p.type, np.dtype(a.dtype)) != a.dtype:
            raise TypeError(f"kernel {name}: {p.name} is {a.dtype}, but {p.type} is {types[p.type]}")
    t = types.get("T", types.get("U", types.get("A", np.dtype("float32"))))
    found = {"T": t, "U": types.get("U", t)}
    found["A"] = accumulation(*found.values())
    if types.get("A", found["A"]) != found["A"]:
        raise TypeError(f"kernel {name}: A is {found['A']} for arrays of {found['T']} and {found['U']}, got {types['A']}")
    return found


def _marshal(name, parameter, argument, types) -> Any:
    dtype = types.get(parameter.type) or np.dtype(FIXED[parameter.type])
    if not parameter.pointer:
        return dtype.type(argument)
    if argument is None:
        return np.uint64(0)
    if argument.dtype != dtype or not argument.flags.c_contiguous:
        raise TypeError(f"kernel {name}: {parameter.name} must be a C-contiguous array of {dtype}, got {argument.dtype}")
    return argument


def read(array, dtype=None):
    """The array as kernels take it: C-contiguous, of `dtype` if one is given; a copy only where needed; None stays None."""
    return None if array is None else _launcher.get().xp.ascontiguousarray(array, dtype)


def allocate(shape, dtype):
    """Memory of the current pool; tests put poison here."""
    return _launcher.get().xp.empty(shape, dtype)


def empty(shape, dtype):
    """Memory for a kernel to write every element of."""
    return allocate(shape, dtype)


def zeros(shape, dtype):
    """Memory that a kernel leaves 0 in places."""
    return _launcher.get().xp.zeros(shape, dtype)


def full(shape, value, dtype):
    """Memory that begins as `value`."""
    return _launcher.get().xp.full(shape, value, dtype)
