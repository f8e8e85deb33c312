"""Faulty implementations that the suite must refuse: is the checker able to fail?"""

from moespec.conformance.mutants import (
    balancing,
    beyond_topk,
    dispatch,
    experts,
    gates,
    gating,
    lookups,
    losses,
    rows,
)
from moespec.conformance.mutants._mutant import Mutant, Mutated, killed_by
from moespec.conformance.mutants.generic import generic

FILES = (
    gates,
    beyond_topk,
    balancing,
    dispatch,
    rows,
    experts,
    gating,
    lookups,
    losses,
)
MUTANTS = tuple(mutant for file in FILES for mutant in file.MUTANTS)

__all__ = ["MUTANTS", "Mutant", "Mutated", "generic", "killed_by"]
