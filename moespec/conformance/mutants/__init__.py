"""Faulty implementations that the suite must refuse: is the checker able to fail?"""

from moespec.conformance.mutants import balancing, beyond_topk, choice, dispatch, experts, gates, gating, losses, scores, transforms
from moespec.conformance.mutants._mutant import Mutant, Mutated, killed_by
from moespec.conformance.mutants.generic import generic

MUTANTS = (
    *gates.MUTANTS, *dispatch.MUTANTS, *experts.MUTANTS, *gating.MUTANTS, *losses.MUTANTS, *beyond_topk.MUTANTS, *balancing.MUTANTS,
    *scores.MUTANTS, *choice.MUTANTS, *transforms.MUTANTS)

__all__ = ["MUTANTS", "Mutant", "Mutated", "generic", "killed_by"]
