"""losses.mixture_nll_classification."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read
from moespec_numba._vector import clear
from moespec_numba.gates._softmax import softmax_row
from moespec_numba.losses._lse import lse_row
from moespec_numba.losses._mixture_nll import prior_minus_posterior
from moespec_numba.losses._scalar import rounded


class Saved(NamedTuple):
    logits: np.ndarray      # T E
    outputs: np.ndarray     # T E C
    labels: np.ndarray      # T
    joint: np.ndarray       # T E   log of prior times likelihood, of the tokens that count
    dtypes: tuple           # of logits and outputs


def forward(logits, outputs, labels):
    OPS["losses.mixture_nll_classification"].admit(logits, outputs, labels)
    wide = np.result_type(logits, outputs)
    s, o, own, joint = read(logits, wide), read(outputs, wide), read(labels, "int64"), empty(logits.shape, wide)
    total = _mixture(s, o, own, joint)
    return rounded(-total / _counted(own), logits.dtype), Saved(s, o, own, read(joint), (logits.dtype, outputs.dtype))


def backward(saved, dloss):
    wide = saved.joint.dtype
    dlogits, doutputs = empty(saved.joint.shape, wide), empty(saved.outputs.shape, wide)
    d = rounded(float(dloss) / _counted(saved.labels), wide)
    _backward(saved.logits, saved.outputs, saved.labels, saved.joint, d, empty(dlogits.shape[1], wide), dlogits, doutputs)
    return dlogits.astype(saved.dtypes[0], copy=False), doutputs.astype(saved.dtypes[1], copy=False)


def _counted(labels):
    return max(int((labels >= 0).sum()), 1)


@kernel
def _mixture(logits, outputs, labels, joint):
    total = np.float64(0)
    for t in range(len(logits)):
        if labels[t] >= 0:
            norm = lse_row(logits[t])
            for i in range(logits.shape[1]):
                joint[t, i] = logits[t, i] - norm + (outputs[t, i, labels[t]] - lse_row(outputs[t, i]))
            total += lse_row(joint[t])
    return total


@kernel
def _backward(logits, outputs, labels, joint, d, posterior, dlogits, doutputs):
    for t in range(len(logits)):
        if labels[t] >= 0:
            prior_minus_posterior(logits[t], joint[t], d, posterior, dlogits[t])
        else:
            clear(dlogits[t])
        for i in range(logits.shape[1]):
            if labels[t] >= 0:
                _through_classes(outputs[t, i], labels[t], d * posterior[i], doutputs[t, i])
            else:
                clear(doutputs[t, i])


@kernel(entry=False)
def _through_classes(outputs, label, d, doutputs):
    """One expert's cross entropy: d times class probabilities minus the truth."""
    softmax_row(outputs, doutputs)
    doutputs[label] -= 1
    for c in range(len(doutputs)):
        doutputs[c] *= d


IMPL = Impl(forward, backward)
