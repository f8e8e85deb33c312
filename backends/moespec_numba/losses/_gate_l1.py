"""losses.gate_l1."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read
from moespec_numba.losses._balance import fractions
from moespec_numba.losses._scalar import rounded, valid


class Saved(NamedTuple):
    ids: np.ndarray         # T K
    mask: np.ndarray        # T
    factors: np.ndarray     # E   of a gate in the loss
    dtype: np.dtype


def forward(indices, weights, mask=None, *, experts, k=None):
    dims = OPS["losses.gate_l1"].admit(indices, weights, mask, experts=experts, k=k)
    mask, counted = valid(mask, dims.T)
    load = np.ones(experts) if k is None else experts / k * fractions(indices, experts, mask, counted, "tokens")
    saved = Saved(read(indices, "int64"), mask, load * (1 / counted), weights.dtype)
    return rounded(_gate_l1(saved.ids, mask, read(saved.factors), read(weights)), weights.dtype), saved


def backward(saved, dloss):
    dweights = empty(saved.ids.shape, saved.dtype)
    _backward(saved.ids, saved.mask, read(saved.factors * float(dloss)), dweights)
    return dweights


@kernel
def _gate_l1(ids, mask, factors, weights):
    total = np.float64(0)
    for t in range(len(ids)):
        for j in range(ids.shape[1] if mask[t] else 0):
            if ids[t, j] >= 0:
                total += factors[ids[t, j]] * weights[t, j]
    return total


@kernel
def _backward(ids, mask, slope, dweights):
    for t in range(len(ids)):
        for j in range(ids.shape[1]):
            dweights[t, j] = slope[ids[t, j]] if mask[t] and ids[t, j] >= 0 else 0


IMPL = Impl(forward, backward)
