"""gates.joint_weights."""

from __future__ import annotations

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import common, empty, like, read
from moespec_numba_cuda._device import cuda, device
from moespec_numba_cuda._kernel import items, kernel


class Saved(NamedTuple):
    chosen: Any             # T K
    shared: Any             # T M
    indices: Any            # T K
    how: tuple              # eps, scale


def forward(chosen, shared, indices, *, eps=0.0, scale=1.0):
    admit("gates.joint_weights", chosen, shared, indices, eps=eps, scale=scale)
    c, s = common(chosen, shared)
    weights, shared_weights = empty(c.shape, c.dtype), empty(s.shape, s.dtype)
    _weigh(items(len(c)), c, s, read(indices, "int64"), eps, scale, weights, shared_weights)
    return (like(chosen, weights), like(shared, shared_weights)), Saved(chosen, shared, indices, (eps, scale))


def backward(saved, dweights, dshared_weights):
    chosen, shared, indices, how = saved
    c, s = common(chosen, shared)
    dw, dv = (empty((0, 0), c.dtype) if d is None else read(d, c.dtype) for d in (dweights, dshared_weights))
    dchosen, dshared = empty(c.shape, c.dtype), empty(s.shape, s.dtype)
    _through(items(len(c)), c, s, read(indices, "int64"), *how, dw, dv, dchosen, dshared)
    return like(chosen, dchosen), like(shared, dshared)


@device
def joint_total(chosen, shared, ids, eps):
    """What a token's scores are divided by; 1 if it has none."""
    some, whole = len(shared) > 0, chosen.dtype.type(0)
    for j in range(len(ids)):
        if ids[j] >= 0:
            some = True
            whole += chosen[j]
    for m in range(len(shared)):
        whole += shared[m]
    return whole + eps if some else chosen.dtype.type(1)


@kernel("T2 T2 i2 T T T2 T2")
def _weigh(chosen, shared, ids, eps, scale, weights, shared_weights):
    for t in range(cuda.grid(1), len(ids), cuda.gridsize(1)):
        whole = joint_total(chosen[t], shared[t], ids[t], eps)
        for j in range(ids.shape[1]):
            weights[t, j] = chosen[t, j] / whole * scale if ids[t, j] >= 0 else 0
        for m in range(shared.shape[1]):
            shared_weights[t, m] = shared[t, m] / whole * scale


@kernel("T2 T2 i2 T T T2 T2 T2 T2")
def _through(chosen, shared, ids, eps, scale, dweights, dshared_weights, dchosen, dshared):
    zero = chosen.dtype.type(0)
    for t in range(cuda.grid(1), len(ids), cuda.gridsize(1)):
        whole, through = joint_total(chosen[t], shared[t], ids[t], eps), zero
        for j in range(ids.shape[1] if len(dweights) > 0 else 0):
            if ids[t, j] >= 0:
                through += dweights[t, j] * chosen[t, j]
        for m in range(shared.shape[1] if len(dshared_weights) > 0 else 0):
            through += dshared_weights[t, m] * shared[t, m]
        through /= whole
        for j in range(ids.shape[1]):
            d = dweights[t, j] if len(dweights) > 0 else zero
            dchosen[t, j] = (d - through) / whole * scale if ids[t, j] >= 0 else zero
        for m in range(shared.shape[1]):
            d = dshared_weights[t, m] if len(dshared_weights) > 0 else zero
            dshared[t, m] = (d - through) / whole * scale


IMPL = Impl(forward, backward)
