"""Backends: the protocol, discovery, selection, and running programs on one of them.

A backend is any object with the attributes of `Backend`; nothing is inherited.  Its operations work on its own
arrays; nothing falls back to another backend.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from functools import cache, lru_cache
from importlib import import_module
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from moespec import program
from moespec.op import Op
from moespec.program import Impl, Trace, composed
from moespec.registry import OPS

SPEC_VERSION = "0.1"
Array = Any


class Backend(Protocol):
    """What a backend has.  `declares` tells compute, accumulate, stores and rounding: see docs/numerics.md."""

    name: str
    spec_version: str
    dtypes: frozenset[str]
    deterministic: bool
    host: bool                                           # works on NumPy arrays
    declares: Mapping[str, Any]
    # Optional: execution, what a run of it is ("real" if absent; "emulated": its kernels are executed by something else than their device),
    # and validate, which a device backend has if it can refuse wrong values too (by waiting for the device).

    def available(self) -> tuple[bool, str]: ...
    def owns(self, array: Array) -> bool: ...            # by already imported modules only
    def ops(self) -> Mapping[str, Impl]: ...             # any subset: primitives and fused composites
    def add(self, a: Array, b: Array) -> Array: ...
    def scale(self, a: Array, c: float) -> Array: ...
    def from_numpy(self, a: np.ndarray) -> Array: ...    # bfloat16 is ml_dtypes' on the NumPy side
    def to_numpy(self, a: Array) -> np.ndarray: ...
    def synchronize(self) -> None: ...


class NumpyBackend:
    """The reference itself."""

    name = "numpy"
    spec_version = SPEC_VERSION
    dtypes = frozenset({"float64", "float32", "float16", "bfloat16"})
    deterministic = True
    host = True
    declares: Mapping[str, Any] = {"compute": "float32", "accumulate": "float32", "rounding": "nearest", "stores": {}}

    def available(self):
        return True, f"NumPy {np.__version__}, {platform.machine()}"

    def owns(self, array):
        return isinstance(array, np.ndarray)

    def ops(self):
        return _primitives()

    def add(self, a, b):
        return a + b

    def scale(self, a, c):
        return (a * c).astype(a.dtype, copy=False)

    def from_numpy(self, a):
        return a

    def to_numpy(self, a):
        return np.asarray(a)

    def synchronize(self):
        pass


@cache
def _primitives() -> Mapping[str, Impl]:
    """Made once: the conformance suite asks for every call."""
    return MappingProxyType({name: Impl(op.forward, op.backward) for name, op in OPS.items() if op.steps is None})


NUMPY = NumpyBackend()
GROUP = "moespec.backends"
_READY: dict[int, Backend] = {}                       # by id: those that can run here


def known() -> dict[str, Any]:
    """The entry points of every installed backend by name, without importing any."""
    found: dict[str, Any] = {}
    for point in entry_points(group=GROUP):
        if point.name in found and point.value != found[point.name].value:
            raise ValueError(f"two distributions register a backend called {point.name!r}: {found[point.name].value} and {point.value}")
        found[point.name] = point
    return found


@lru_cache
def load(which: str) -> Backend:
    """The backend registered as `which`, or the object at "pkg.module:OBJ"."""
    if which == "numpy":
        return NUMPY
    if ":" in which:
        module, _, name = which.partition(":")
        return getattr(import_module(module), name)
    points = known()
    if which not in points:
        raise ValueError(f"no backend is called {which!r}; installed: {', '.join(sorted({'numpy', *points}))}; or give 'pkg.module:OBJ'")
    return points[which].load()


def status(which: str) -> tuple[bool, str]:
    """Whether a backend can run here, and its device or the reason why not.  Never raises."""
    try:
        return load(which).available()
    except Exception as error:        # a broken installation fails in its own ways, and must not hide the others
        return False, f"{type(error).__name__}: {error}"


def get_backend(which: str | Backend | None = None, *, like: Array = None) -> Backend:
    """Choose: the argument; else the owner of the array `like`; for NumPy arrays MOESPEC_BACKEND, default "numpy".

    Raises
    ------
    ValueError
        The backend is unknown, or cannot run here (with its reason).
    TypeError
        No backend owns `like`.
    """
    if which is None and like is not None and not isinstance(like, np.ndarray):
        return _owner(like)
    if which is None:
        which = os.environ.get("MOESPEC_BACKEND", "numpy")
        if not getattr(load(which), "host", False):
            raise ValueError(f"MOESPEC_BACKEND={which} does not work on NumPy arrays")
    backend = load(which) if isinstance(which, str) else which
    if id(backend) not in _READY:
        _require_ready(backend)
    if like is not None and not backend.owns(like):
        raise TypeError(f"backend {backend.name!r} does not work on {type(like).__module__}.{type(like).__name__}: convert it yourself")
    return backend


def _require_ready(backend):
    """Refuse a backend that cannot run here; one that can is not asked again."""
    ready, reason = backend.available()
    if not ready:
        raise ValueError(f"backend {backend.name!r} cannot run here: {reason}")
    _READY[id(backend)] = backend


def _owner(array):
    for name, point in known().items():
        if point.value.partition(":")[0] in sys.modules and load(name).owns(array):
            return load(name)
    raise TypeError(f"no loaded backend owns {type(array).__module__}.{type(array).__name__}; name one with backend=")


def resolver(backend: Backend):
    """The look-up of a backend: native, else composed over the same backend, else NotImplementedError."""
    table = backend.ops()

    def find(op: Op, attrs: Mapping[str, Any]) -> Impl:
        impl = table.get(op.name)
        reason = None if impl is None else impl.supports(**attrs)
        if impl is not None and reason is None:
            return impl
        if op.steps is not None and backend.declares.get("composes", True):
            return composed(op, find, backend.add)
        raise NotImplementedError(f"backend {backend.name!r} has no {op.name}" + (f": {reason}" if reason else ""))

    return find


def resolve(backend: Backend, name: str, attrs: Mapping[str, Any] | None = None) -> Impl:
    """The implementation of one op on `backend`."""
    return resolver(backend)(OPS[name], attrs or {})


def run(backend: Backend, steps, values: Mapping[str, Array]) -> Trace:
    """Run a program forward on `backend`."""
    return program.run(steps, values, resolver(backend))


def run_backward(backend: Backend, trace: Trace, cotangents: Mapping[str, Array]) -> dict[str, Array]:
    """Run a program backward on `backend`: the gradient of every named value."""
    return program.run_backward(trace, cotangents, resolver(backend), backend.add)
