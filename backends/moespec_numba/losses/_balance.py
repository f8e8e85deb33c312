"""What the balance losses share: a constant per expert times the mean probability of the expert."""

from typing import NamedTuple

import numpy as np

from moespec_numba._kernel import empty, kernel, read, zeros
from moespec_numba._vector import add_scaled, clear, copy
from moespec_numba.losses._scalar import rounded


class Saved(NamedTuple):
    coefficient: np.ndarray     # E
    mask: np.ndarray            # T
    counted: int
    dtype: np.dtype


def weigh_means(probs, coefficient, mask, counted):
    """Sum of c_i P_i with the mean P_i of the valid tokens; `coefficient` is float64[E]."""
    totals = zeros(probs.shape[1], "float64")
    _add_valid(read(probs), mask, totals)
    return rounded((coefficient * (totals / counted)).sum(), probs.dtype), Saved(coefficient, mask, counted, probs.dtype)


def weigh_means_backward(saved, dloss):
    """A valid token gets c_i dloss / |V|."""
    dprobs = empty((len(saved.mask), len(saved.coefficient)), saved.dtype)
    _repeat(saved.mask, read(float(dloss) / saved.counted * saved.coefficient, saved.dtype), dprobs)
    return dprobs


def fractions(indices, experts, mask, counted, normalizer="assignments"):
    """float64[E]: counts over the valid tokens times K ("assignments"), or over the valid tokens ("tokens")."""
    counts = zeros(experts, "float64")
    _count(read(indices, "int64"), mask, counts)
    return counts / max(counted * (indices.shape[1] if normalizer == "assignments" else 1), 1)


@kernel
def _add_valid(probs, mask, totals):
    for t in range(len(probs)):
        if mask[t]:
            add_scaled(totals, 1.0, probs[t])


@kernel
def _count(ids, mask, counts):
    for t in range(len(ids)):
        for j in range(ids.shape[1] if mask[t] else 0):
            if ids[t, j] >= 0:
                counts[ids[t, j]] += 1


@kernel
def _repeat(mask, slope, dprobs):
    for t in range(len(mask)):
        if mask[t]:
            copy(dprobs[t], slope)
        else:
            clear(dprobs[t])
