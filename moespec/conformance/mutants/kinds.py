"""Defects of the small gates that let tokens of one kind through."""

from __future__ import annotations

import numpy as np

from moespec import gates
from moespec.conformance.mutants._mutant import Mutant


def _the_other(indices, kinds, *, other=False):
    return gates.of_kind(indices, kinds, other=not other)


def _positive_only(indices, kinds, *, other=False):
    return np.where(((kinds > 0) == other)[:, None], indices, -1), None


def _to_expert_0(indices, kinds, *, other=False):
    kept, _ = gates.of_kind(indices, kinds, other=other)
    return np.where(((kinds != 0) == other)[:, None], kept, 0), None


MUTANTS = (
    Mutant("gates.of_kind", "keeps the other kind", _the_other),
    Mutant("gates.of_kind", "a negative kind counts as 0", _positive_only),
    Mutant("gates.of_kind", "the others go to expert 0", _to_expert_0),
)
