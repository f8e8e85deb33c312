"""Which kernels an op of a backend is made of: what its module, and what that imports of the same package, holds."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from types import ModuleType


def reached(package: str, op: str, kind: type) -> list:
    """The objects of `kind` that are global in the module of `op` ("gates.topk": package.gates._topk) or in one that it imports."""
    family, _, short = op.partition(".")
    found: dict[int, object] = {}
    for module in _modules(package, import_module(f"{package}.{family}._{short}"), set()):
        found |= {id(value): value for value in vars(module).values() if isinstance(value, kind)}
    return list(found.values())


def _modules(package: str, module: ModuleType, seen: set[str]) -> Iterator[ModuleType]:
    """The module, and those of the same package that its names come from."""
    if module.__name__ in seen:
        return
    seen.add(module.__name__)
    yield module
    for value in vars(module).values():
        name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
        if isinstance(name, str) and name.startswith(f"{package}.") and name != module.__name__:
            yield from _modules(package, import_module(name), seen)
