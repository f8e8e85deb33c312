"""losses.specialisation."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read
from moespec_numba._vector import squared_distance
from moespec_numba.losses._scalar import rounded


class Saved(NamedTuple):
    probs: np.ndarray       # T E
    outputs: np.ndarray     # T E C
    target: np.ndarray      # T C
    squared: np.ndarray     # T E   squared error of every expert
    dtypes: tuple           # of probs and outputs


def forward(probs, outputs, target):
    OPS["losses.specialisation"].admit(probs, outputs, target)
    wide = np.result_type(probs, outputs, target)
    p, o, d, squared = read(probs, wide), read(outputs, wide), read(target, wide), empty(probs.shape, wide)
    total = _specialisation(p, o, d, squared)
    return rounded(total / max(len(p), 1), probs.dtype), Saved(p, o, d, squared, (probs.dtype, outputs.dtype))


def backward(saved, dloss):
    d = rounded(float(dloss) / max(len(saved.probs), 1), saved.probs.dtype)
    doutputs = empty(saved.outputs.shape, saved.outputs.dtype)
    _backward(saved.probs, saved.outputs, saved.target, -2 * d, doutputs)
    return (d * saved.squared).astype(saved.dtypes[0], copy=False), doutputs.astype(saved.dtypes[1], copy=False)


@kernel
def _specialisation(probs, outputs, target, squared):
    total = np.float64(0)
    for t in range(len(probs)):
        for i in range(probs.shape[1]):
            squared[t, i] = squared_distance(target[t], outputs[t, i])
            total += probs[t, i] * squared[t, i]
    return total


@kernel
def _backward(probs, outputs, target, scale, doutputs):
    for t in range(len(probs)):
        for i in range(probs.shape[1]):
            for c in range(target.shape[1]):
                doutputs[t, i, c] = scale * probs[t, i] * (target[t, c] - outputs[t, i, c])


IMPL = Impl(forward, backward)
