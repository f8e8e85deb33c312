"""losses.mixture_nll."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read
from moespec_numba._vector import squared_distance
from moespec_numba.gates._softmax import softmax_row
from moespec_numba.losses._lse import lse_row
from moespec_numba.losses._scalar import rounded


class Saved(NamedTuple):
    logits: np.ndarray      # T E
    outputs: np.ndarray     # T E C
    target: np.ndarray      # T C
    joint: np.ndarray       # T E   log of prior times likelihood
    sigma: float
    dtypes: tuple           # of logits and outputs


def forward(logits, outputs, target, *, sigma=1.0):
    OPS["losses.mixture_nll"].admit(logits, outputs, target, sigma=sigma)
    wide = np.result_type(logits, outputs, target)
    s, o, d, joint = read(logits, wide), read(outputs, wide), read(target, wide), empty(logits.shape, wide)
    total = _mixture(s, o, d, wide.type(2.0 * sigma**2), joint)
    return rounded(-total / max(len(s), 1), logits.dtype), Saved(s, o, d, read(joint), sigma, (logits.dtype, outputs.dtype))


def backward(saved, dloss):
    wide = saved.joint.dtype
    dlogits, doutputs = empty(saved.joint.shape, wide), empty(saved.outputs.shape, wide)
    d = float(dloss) / max(len(dlogits), 1)
    posterior = empty(dlogits.shape[1], wide)
    _backward(saved.logits, saved.outputs, saved.target, saved.joint, rounded(d, wide), rounded(-d / saved.sigma**2, wide), posterior,
              dlogits, doutputs)
    return dlogits.astype(saved.dtypes[0], copy=False), doutputs.astype(saved.dtypes[1], copy=False)


@kernel(entry=False)
def prior_minus_posterior(logits, joint, d, posterior, dlogits):
    """One token; leaves the responsibilities in `posterior`.  Their sum is 1 up to rounding, as in everybody's autograd."""
    softmax_row(logits, dlogits)
    softmax_row(joint, posterior)
    total = posterior.dtype.type(0)
    for i in range(len(posterior)):
        total += posterior[i]
    for i in range(len(posterior)):
        dlogits[i] = d * (dlogits[i] * total - posterior[i])


@kernel
def _mixture(logits, outputs, target, by, joint):
    total = np.float64(0)
    for t in range(len(logits)):
        norm = lse_row(logits[t])
        for i in range(logits.shape[1]):
            joint[t, i] = logits[t, i] - norm - squared_distance(target[t], outputs[t, i]) / by
        total += lse_row(joint[t])
    return total


@kernel
def _backward(logits, outputs, target, joint, d, scale, posterior, dlogits, doutputs):
    for t in range(len(logits)):
        prior_minus_posterior(logits[t], joint[t], d, posterior, dlogits[t])
        for i in range(logits.shape[1]):
            for c in range(target.shape[1]):
                doutputs[t, i, c] = scale * posterior[i] * (target[t, c] - outputs[t, i, c])


IMPL = Impl(forward, backward)
