"""gates.relu_route."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import empty, flat, like, read
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel


def forward(logits, indices=None):
    admit("gates.relu_route", logits, indices)
    x, given = read(logits), empty((0, 0), "int64") if indices is None else read(indices, "int64")
    ids, weights = empty(x.shape, "int64"), empty(x.shape, x.dtype)
    _forward(items(x.size), x, given, ids, weights)
    return (ids, like(logits, weights)), (logits, ids)


def backward(saved, dweights):
    logits, ids = saved
    x = read(logits)
    dlogits = empty(x.shape, x.dtype)
    _backward(items(x.size), flat(x), flat(ids), flat(read(dweights, x.dtype)), flat(dlogits))
    return like(logits, dlogits)


@kernel("T2 i2 i2 T2")
def _forward(logits, given, ids, weights):
    (tokens, experts), zero = logits.shape, logits.dtype.type(0)
    for i in range(cuda.grid(1), tokens * experts, cuda.gridsize(1)):
        t, e = i // experts, i % experts
        off = logits[t, e] <= 0                             # a NaN is on
        mine = given[t, e] >= 0 if len(given) > 0 else not off
        ids[t, e] = e if mine else -1
        weights[t, e] = logits[t, e] if mine and not off else zero


@kernel("T1 i1 T1 T1")
def _backward(logits, ids, dweights, dlogits):
    zero = logits.dtype.type(0)
    for i in range(cuda.grid(1), len(logits), cuda.gridsize(1)):
        dlogits[i] = zero if ids[i] < 0 or logits[i] <= 0 else dweights[i]


IMPL = Impl(forward, backward)
