"""gates.accept, and its decision."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import common, empty, like, read
from moespec_numba_cuda._device import cuda, device
from moespec_numba_cuda._kernel import items, kernel


def forward(indices, weights, uniform, kept=None, *, rule="gshard", threshold=0.2):
    admit("gates.accept", indices, weights, uniform, kept, rule=rule, threshold=threshold)
    w, u = common(weights, uniform)
    given = empty((0, 0), "int64") if kept is None else read(kept, "int64")
    found, out = empty(w.shape, "int64"), empty(w.shape, w.dtype)
    _accept(items(len(w)), read(indices, "int64"), w, u, given, *factor(rule, threshold), found, out)
    return (found, like(weights, out)), (found, weights.dtype)


def backward(saved, dweights):
    kept, _ = saved
    d = read(dweights)
    din = empty(d.shape, d.dtype)
    _backward(items(len(d)), kept, d, din)
    return like(dweights, din)


def factor(rule, threshold):
    """A second share s is kept where s * times / by exceeds the draw."""
    return (2.0, 1.0) if rule == "gshard" else (1.0, threshold)


@device
def kept_row(ids, taken, kept):
    """The routing of one token when its second choice is taken or not."""
    kept[0] = ids[0] if ids[0] >= 0 else -1
    kept[1] = ids[1] if ids[1] >= 0 and taken else -1


@device
def mask_row(values, ids, out):
    """What has an expert, 0 elsewhere."""
    zero = values.dtype.type(0)
    for j in range(len(ids)):
        out[j] = values[j] if ids[j] >= 0 else zero


@kernel("i2 T2 T1 i2 T T i2 T2")
def _accept(ids, weights, uniform, given, times, by, kept, out):
    for t in range(cuda.grid(1), len(ids), cuda.gridsize(1)):
        taken = given[t, 1] >= 0 if len(given) > 0 else weights[t, 1] * times / by > uniform[t]
        kept_row(ids[t], taken, kept[t])
        mask_row(weights[t], kept[t], out[t])


@kernel("i2 T2 T2")
def _backward(kept, dweights, din):
    for t in range(cuda.grid(1), len(kept), cuda.gridsize(1)):
        mask_row(dweights[t], kept[t], din[t])


IMPL = Impl(forward, backward)
