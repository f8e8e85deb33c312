"""The public names: `__all__` of every module that has one, and what the modules of `moespec.__all__` define without one."""

from __future__ import annotations

import inspect
import pkgutil
from importlib import import_module
from types import ModuleType

from sphinx.ext.autodoc.mock import mock

import moespec
from moespec import registry

FAMILIES = ("gates", "dispatch", "experts", "losses")


def modules(mocked) -> list[ModuleType]:
    """Every public module, the top one first."""
    with mock(mocked):
        found = [import_module(m.name) for m in pkgutil.walk_packages(moespec.__path__, "moespec.") if _open(m.name)]
    return [moespec, *(m for m in found if hasattr(m, "__all__") or m.__name__.removeprefix("moespec.") in moespec.__all__)]


def names(module: ModuleType) -> list[str]:
    """The public names of one."""
    if module is moespec:
        return [n for n in moespec.__all__ if n != "__version__" and not inspect.ismodule(getattr(moespec, n))]
    if hasattr(module, "__all__"):
        return sorted(module.__all__)
    own = {n: x for n, x in vars(module).items() if not n.startswith("_") and (n.isupper() or getattr(x, "__module__", None) == module.__name__)}
    return [n for n, x in own.items() if module is registry or x is not registry.OPS]


def _open(name):
    parts = name.split(".")
    return parts[1] != "cli" and not any(part.startswith("_") for part in parts)
