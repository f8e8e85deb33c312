"""gates.joint_weights."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read, zeros


class Saved(NamedTuple):
    chosen: np.ndarray      # T K
    shared: np.ndarray      # T M
    indices: np.ndarray     # T K
    total: np.ndarray       # T
    scale: float
    dtypes: tuple           # of chosen and shared


def forward(chosen, shared, indices, *, eps=0.0, scale=1.0):
    OPS["gates.joint_weights"].admit(chosen, shared, indices, eps=eps, scale=scale)
    dtype = np.result_type(chosen, shared)
    wide, total = (read(chosen, dtype), read(shared, dtype), read(indices, "int64")), empty(len(chosen), dtype)
    weights, shared_weights = empty(chosen.shape, chosen.dtype), empty(shared.shape, shared.dtype)
    _forward(*wide, dtype.type(eps), dtype.type(scale), total, weights, shared_weights)
    return (weights, shared_weights), Saved(*wide, read(total), dtype.type(scale), (chosen.dtype, shared.dtype))


def backward(saved, dweights, dshared_weights):
    given = zip((dweights, dshared_weights), saved[:2], strict=True)
    dw, dv = (read(zeros(a.shape, a.dtype) if d is None else d, a.dtype) for d, a in given)
    dchosen, dshared = empty(dw.shape, saved.dtypes[0]), empty(dv.shape, saved.dtypes[1])
    _backward(*saved[:5], dw, dv, dchosen, dshared)
    return dchosen, dshared


@kernel
def _forward(chosen, shared, ids, eps, scale, total, weights, shared_weights):
    for t in range(len(ids)):
        live, total[t] = shared.shape[1] > 0, 0
        for j in range(ids.shape[1]):
            if ids[t, j] >= 0:
                live, total[t] = True, total[t] + chosen[t, j]
        for m in range(shared.shape[1]):
            total[t] += shared[t, m]
        total[t] = total[t] + eps if live else 1
        for j in range(ids.shape[1]):
            weights[t, j] = chosen[t, j] / total[t] * scale if ids[t, j] >= 0 else 0
        for m in range(shared.shape[1]):
            shared_weights[t, m] = shared[t, m] / total[t] * scale


@kernel
def _backward(chosen, shared, ids, total, scale, dw, dv, dchosen, dshared):
    for t in range(len(ids)):
        through = chosen.dtype.type(0)
        for j in range(ids.shape[1]):
            if ids[t, j] >= 0:
                through += dw[t, j] * chosen[t, j]
        for m in range(shared.shape[1]):
            through += dv[t, m] * shared[t, m]
        through /= total[t]
        for j in range(ids.shape[1]):
            dchosen[t, j] = (dw[t, j] - through) / total[t] * scale if ids[t, j] >= 0 else 0
        for m in range(shared.shape[1]):
            dshared[t, m] = (dv[t, m] - through) / total[t] * scale


IMPL = Impl(forward, backward)
