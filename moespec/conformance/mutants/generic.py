"""Defects that can be put into any op."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from moespec import program
from moespec.backend import NUMPY
from moespec.conformance.mutants._mutant import Mutant
from moespec.op import as_tuple


def _largest(a):
    """The position of the largest finite entry, or None."""
    size = np.where(np.isfinite(a.astype(np.float64)), np.abs(a.astype(np.float64)), 0.0)
    return np.unravel_index(size.argmax(), a.shape) if size.size and size.max() > 0 else None


def _at_largest(change):
    def defect(a):
        where = _largest(a)
        if where is None:
            return a
        a = a.copy()
        a[where] = change(a[where])
        return a
    return defect


def _off_by_one_row(a):
    return np.roll(a, 1, axis=0) if a.ndim and len(a) > 1 else a


DEFECTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "one element 1 % off": _at_largest(lambda x: x * np.asarray(1.01, x.dtype)),
    "one element NaN": _at_largest(lambda x: np.asarray(np.nan, x.dtype)),
    "largest element left 0": _at_largest(lambda x: np.asarray(0.0, x.dtype)),
    "everything 1 % off": lambda a: (a.astype(np.float64) * 1.01).astype(a.dtype),
    "sign flipped": lambda a: -a,
    "rows off by one": _off_by_one_row,
    "wrong dtype": lambda a: a.astype(np.float32 if a.dtype == np.float64 else np.float64),
}


def generic(op) -> Iterator[Mutant]:
    """Every generic defect in the first real output that it can be put into, and in the last gradient, of an op."""
    right = NUMPY.ops().get(op.name) or program.composed(op, program.reference)
    scalar = all(a.shape == "" for a in op.cotangents)
    for name, defect in DEFECTS.items():
        if op.cotangents and not (scalar and defect is _off_by_one_row):
            yield Mutant(op.name, f"forward: {name}", forward=_break_output(op, right.forward, defect))
        if op.grads and right.backward is not None:
            yield Mutant(op.name, f"backward: {name}", backward=_break_gradient(right.backward, defect))


def _break_output(op, forward, defect):
    spot = next(i for i, a in enumerate(op.outputs) if a.kind == "real" and (a.shape or defect is not _off_by_one_row))     # a scalar has no rows

    def wrong(*inputs: Any, **attrs: Any):
        outputs, saved = forward(*inputs, **attrs)
        parts = list(as_tuple(outputs))
        parts[spot] = defect(np.asarray(parts[spot]))
        return program.pack(op, parts), saved

    return wrong


def _break_gradient(backward, defect):
    def wrong(saved, *cotangents):
        grads = list(as_tuple(backward(saved, *cotangents)))
        last = max(i for i, d in enumerate(grads) if d is not None and (np.ndim(d) or defect is not _off_by_one_row))   # a scalar has no rows
        grads[last] = defect(np.asarray(grads[last]))
        return tuple(grads)

    return wrong
