"""What becomes of a mutant in one dtype: killed, the same as the reference there, or alive."""

from __future__ import annotations

import numpy as np

from moespec.backend import NUMPY
from moespec.conformance.execute import execute
from moespec.conformance.inputs import cases_of, skipped
from moespec.conformance.mutants._mutant import Mutant, Mutated, killed_by
from moespec.pairs import UNIT
from moespec.registry import OPS

FATES = ("killed", "same", "alive")


def fate(mutant: Mutant, dtype: str, seed: int = 0) -> str:
    """One of FATES; ``"same"``: no result of any case differs from the reference's by more than one rounding to `dtype`."""
    if killed_by(mutant, (dtype,), seed) is not None:
        return "killed"
    op = OPS[mutant.op]
    cases = (c for c in cases_of(op, seed) if not skipped(c, dtype))
    return "same" if all(_same(mutant, op, case, dtype, seed) for case in cases) else "alive"


def _same(mutant, op, case, dtype, seed):
    with np.errstate(all="ignore"):
        right, wrong = (execute(backend, op, case, dtype, seed) for backend in (NUMPY, Mutated(mutant)))
    pairs = zip((*right.outputs, *(right.grads or ())), (*wrong.outputs, *(wrong.grads or ())), strict=True)
    return all(a is b or _near(a, b, UNIT[dtype]) for a, b in pairs)


def _near(a, b, unit):
    if a is None or b is None or a.dtype != b.dtype or a.shape != b.shape:
        return False
    a, b = (np.asarray(x, np.float64) for x in (a, b))
    with np.errstate(all="ignore"):
        return bool(np.all((a == b) | (np.isnan(a) & np.isnan(b)) | (np.abs(a - b) <= 2 * unit * np.abs(a))))
