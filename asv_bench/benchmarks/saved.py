"""What forward keeps for backward, found by looking."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np


def saved_bytes(saved, known=()):
    """Bytes of all arrays in what the steps of a layer saved, each counted once, without those of `known` (inputs, parameters)."""
    inputs = {id(_owner(a)) for a in known}
    kept = {id(_owner(a)): _owner(a).nbytes for a in _arrays(saved.trace.saved)}
    return sum(size for key, size in kept.items() if key not in inputs)


def _owner(array):
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _arrays(saved: Any) -> Iterator[np.ndarray]:
    if isinstance(saved, np.ndarray):
        yield saved
    elif isinstance(saved, dict):
        yield from _arrays(list(saved.values()))
    elif isinstance(saved, list | tuple):
        for item in saved:
            yield from _arrays(item)
    elif is_dataclass(saved):
        yield from _arrays([getattr(saved, f.name) for f in fields(saved)])
