"""Faulty implementations that the suite must refuse: is the checker able to fail?"""

from moespec.conformance.mutants import (
    balancing,
    beyond_topk,
    choice,
    dispatch,
    experts,
    gates,
    gating,
    kinds,
    lookups,
    losses,
    rows,
    scores,
    transforms,
)
from moespec.conformance.mutants._mutant import Mutant, Mutated, killed_by
from moespec.conformance.mutants.generic import generic

MUTANTS = (
    *gates.MUTANTS, *dispatch.MUTANTS, *experts.MUTANTS, *gating.MUTANTS, *kinds.MUTANTS,
    *losses.MUTANTS, *scores.MUTANTS, *beyond_topk.MUTANTS, *balancing.MUTANTS, *choice.MUTANTS,
    *rows.MUTANTS, *lookups.MUTANTS, *transforms.MUTANTS,
)

__all__ = ["MUTANTS", "Mutant", "Mutated", "generic", "killed_by"]
