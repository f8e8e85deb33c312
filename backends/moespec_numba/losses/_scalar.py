"""Losses are scalars: which tokens count, and the value rounded once.  Kernels add up over tokens and experts in float64."""

import numpy as np

from moespec_numba._kernel import read


def valid(mask, tokens):
    """(bool[T], at least 1 and else how many count); None is all."""
    mask = np.ones(tokens, bool) if mask is None else mask
    return read(mask), max(int(mask.sum()), 1)


def rounded(value, dtype):
    """A number in float32 or float64; too large is inf."""
    with np.errstate(over="ignore"):
        return np.dtype(dtype).type(value)
