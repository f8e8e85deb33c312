"""losses.cooperation."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read
from moespec_numba._vector import add_scaled, clear, inner
from moespec_numba.losses._scalar import rounded


class Saved(NamedTuple):
    probs: np.ndarray       # T E
    outputs: np.ndarray     # T E C
    error: np.ndarray       # T C   target - blended output
    dtypes: tuple           # of probs and outputs


def forward(probs, outputs, target):
    OPS["losses.cooperation"].admit(probs, outputs, target)
    wide = np.result_type(probs, outputs, target)
    p, o, error = read(probs, wide), read(outputs, wide), empty(target.shape, wide)
    total = _cooperation(p, o, read(target, wide), error)
    return rounded(total / max(len(p), 1), probs.dtype), Saved(p, o, read(error), (probs.dtype, outputs.dtype))


def backward(saved, dloss):
    dprobs, doutputs = empty(saved.probs.shape, saved.error.dtype), empty(saved.outputs.shape, saved.error.dtype)
    scale = rounded(-2.0 / max(len(dprobs), 1) * float(dloss), saved.error.dtype)
    _backward(saved.probs, saved.outputs, saved.error, scale, dprobs, doutputs)
    return dprobs.astype(saved.dtypes[0], copy=False), doutputs.astype(saved.dtypes[1], copy=False)


@kernel
def _cooperation(probs, outputs, target, error):
    total = np.float64(0)
    for t in range(len(probs)):
        clear(error[t])
        for i in range(probs.shape[1]):
            add_scaled(error[t], probs[t, i], outputs[t, i])
        for c in range(error.shape[1]):
            error[t, c] = target[t, c] - error[t, c]
            total += error[t, c] * error[t, c]
    return total


@kernel
def _backward(probs, outputs, error, scale, dprobs, doutputs):
    for t in range(len(probs)):
        for i in range(probs.shape[1]):
            dprobs[t, i] = scale * inner(error[t], outputs[t, i])
            for c in range(error.shape[1]):
                doutputs[t, i, c] = probs[t, i] * (scale * error[t, c])


IMPL = Impl(forward, backward)
