"""losses.mixture_likelihood."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read, zeros
from moespec_numba._vector import inner, total
from moespec_numba.gates._softmax import softmax_row
from moespec_numba.losses._lse import lse_row
from moespec_numba.losses._scalar import rounded


class Saved(NamedTuple):
    logits: np.ndarray      # T E
    posterior: np.ndarray   # T E
    dtypes: tuple           # of logits and evidence


def forward(logits, evidence):
    OPS["losses.mixture_likelihood"].admit(logits, evidence)
    wide = np.result_type(logits, evidence)
    s, posterior = read(logits, wide), empty(logits.shape, wide)
    likelihood = _forward(s, read(evidence, wide), empty(logits.shape[1], wide), posterior)
    loss = rounded(-likelihood / max(len(s), 1), logits.dtype)
    return (loss, posterior.astype(logits.dtype, copy=False)), Saved(s, read(posterior), (logits.dtype, evidence.dtype))


def backward(saved, dloss, dposterior):
    s, h, dtypes = saved
    dlogits, devidence = empty(h.shape, h.dtype), empty(h.shape, h.dtype)
    d = rounded(0 if dloss is None else -float(dloss) / max(len(h), 1), h.dtype)
    _backward(s, h, d, read(zeros(h.shape, h.dtype) if dposterior is None else dposterior, h.dtype), dlogits, devidence)
    return dlogits.astype(dtypes[0], copy=False), devidence.astype(dtypes[1], copy=False)


@kernel
def _forward(logits, evidence, joint, posterior):
    likelihood = np.float64(0)
    for t in range(len(logits)):
        norm = lse_row(logits[t])
        for e in range(len(joint)):
            joint[e] = logits[t, e] - norm + evidence[t, e]
        likelihood += lse_row(joint)
        softmax_row(joint, posterior[t])
    return likelihood


@kernel
def _backward(logits, posterior, dloss, dposterior, dlogits, devidence):
    """The prior is computed where the gradient of the logits goes."""
    for t in range(len(logits)):
        along = inner(posterior[t], dposterior[t])
        for e in range(logits.shape[1]):
            devidence[t, e] = posterior[t, e] * (dposterior[t, e] - along) + dloss * posterior[t, e]
        whole = total(devidence[t])
        softmax_row(logits[t], dlogits[t])
        for e in range(logits.shape[1]):
            dlogits[t, e] = devidence[t, e] - dlogits[t, e] * whole


IMPL = Impl(forward, backward)
