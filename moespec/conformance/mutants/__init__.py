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
    mixtures,
    rows,
    scores,
    transforms,
)
from moespec.conformance.mutants._fate import FATES, fate
from moespec.conformance.mutants._mutant import Mutant, Mutated, killed_by
from moespec.conformance.mutants.generic import generic

FILES = (
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
    mixtures,
    rows,
    scores,
    transforms,
)
MUTANTS = tuple(mutant for file in FILES for mutant in file.MUTANTS)

__all__ = ["FATES", "MUTANTS", "Mutant", "Mutated", "fate", "generic", "killed_by"]
