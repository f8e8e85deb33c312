"""losses.gaussian_log_likelihood."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read, zeros
from moespec_numba._vector import squared_distance

LOG_2_PI = 1.8378770664093453


class Saved(NamedTuple):
    outputs: np.ndarray     # T E C
    target: np.ndarray      # T C
    precision: np.ndarray   # E
    dtypes: tuple           # of outputs and log_precisions


def forward(outputs, target, log_precisions):
    OPS["losses.gaussian_log_likelihood"].admit(outputs, target, log_precisions)
    wide = np.result_type(outputs, target, log_precisions)
    logs = log_precisions.astype(wide)
    with np.errstate(all="ignore"):
        precision = read(np.exp(logs))
    saved = Saved(read(outputs, wide), read(target, wide), precision, (outputs.dtype, log_precisions.dtype))
    norms = wide.type(0.5 * target.shape[1]) * (logs - wide.type(LOG_2_PI))
    evidence = empty(outputs.shape[:2], wide)
    _forward(*saved[:3], read(norms), evidence)
    return evidence.astype(outputs.dtype, copy=False), saved


def backward(saved, devidence):
    o, d, precision, dtypes = saved
    doutputs, dlogs = empty(o.shape, o.dtype), zeros(precision.shape, o.dtype)
    _backward(o, d, precision, read(devidence, o.dtype), doutputs, dlogs)
    return doutputs.astype(dtypes[0], copy=False), dlogs.astype(dtypes[1], copy=False)


@kernel
def _forward(outputs, target, precision, norms, evidence):
    half = outputs.dtype.type(0.5)
    for t in range(len(outputs)):
        for e in range(len(precision)):
            evidence[t, e] = norms[e] - half * (precision[e] * squared_distance(target[t], outputs[t, e]))


@kernel
def _backward(outputs, target, precision, devidence, doutputs, dlogs):
    half, classes = outputs.dtype.type(0.5), outputs.dtype.type(target.shape[1])
    for t in range(len(outputs)):
        for e in range(len(precision)):
            g = devidence[t, e]
            dlogs[e] += half * g * (classes - precision[e] * squared_distance(target[t], outputs[t, e]))
            for c in range(target.shape[1]):
                doutputs[t, e, c] = g * precision[e] * (target[t, c] - outputs[t, e, c])


IMPL = Impl(forward, backward)
