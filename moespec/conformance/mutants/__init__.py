"""Faulty implementations that the suite must refuse: is the checker able to fail?"""

from moespec.conformance.mutants import choice, dispatch, experts, gates, losses, scores, transforms
from moespec.conformance.mutants._mutant import Mutant, Mutated, killed_by
from moespec.conformance.mutants.generic import generic

MUTANTS = (*gates.MUTANTS, *scores.MUTANTS, *choice.MUTANTS, *transforms.MUTANTS, *dispatch.MUTANTS, *experts.MUTANTS, *losses.MUTANTS)

__all__ = ["MUTANTS", "Mutant", "Mutated", "generic", "killed_by"]
