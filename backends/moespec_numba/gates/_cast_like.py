"""gates.cast_like: a copy, which NumPy makes as fast as anybody."""

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS


def forward(a, like):
    OPS["gates.cast_like"].admit(a, like)
    if a.dtype == like.dtype:
        return a.copy(), a.dtype
    with np.errstate(over="ignore"):
        return a.astype(like.dtype), a.dtype


def backward(saved, dy):
    return dy.astype(saved)


IMPL = Impl(forward, backward)
