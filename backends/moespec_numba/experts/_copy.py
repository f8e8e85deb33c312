"""experts.copy."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read
from moespec_numba._vector import clear, inner, scale
from moespec_numba.experts._types import common, like


class Saved(NamedTuple):
    inputs: tuple           # x, weights
    z: np.ndarray           # T K   -1 where the id is no copy expert


def forward(x, indices, weights, *, first, last=None):
    OPS["experts.copy"].admit(x, indices, weights, first=first, last=last)
    saved = Saved((x, weights), within(indices, first, last))
    rows, w = common(x, weights)
    y = empty(x.shape, rows.dtype)
    _weigh(rows, saved.z, w, y)
    return like(x, y), saved


def backward(saved, dy):
    x, w, d = common(*saved.inputs, dy)
    dx, dw = empty(x.shape, x.dtype), empty(w.shape, x.dtype)
    _weigh(d, saved.z, w, dx)
    _to_weights(x, saved.z, d, dw)
    return tuple(map(like, saved.inputs, (dx, dw)))


def within(indices, first, last):
    """int64[T, K]: ids counted from `first`, -1 for those below it and from `last` on."""
    end = np.iinfo("int64").max if last is None else last
    z = empty(indices.shape, "int64")
    _within(read(indices, "int64"), first, end, z)
    return read(z)


@kernel
def _within(indices, first, end, z):
    for t in range(len(z)):
        for j in range(z.shape[1]):
            z[t, j] = indices[t, j] - first if first <= indices[t, j] < end else -1


@kernel
def _weigh(rows, z, weights, out):
    for t in range(len(out)):
        total, some = weights.dtype.type(0), False
        for j in range(z.shape[1]):
            if z[t, j] >= 0:
                total, some = total + weights[t, j], True
        if some:
            scale(out[t], total, rows[t])
        else:
            clear(out[t])


@kernel
def _to_weights(x, z, dy, dweights):
    for t in range(len(dweights)):
        some = False
        for j in range(z.shape[1]):
            some |= z[t, j] >= 0
        product = inner(x[t], dy[t]) if some else x.dtype.type(0)
        for j in range(z.shape[1]):
            dweights[t, j] = product if z[t, j] >= 0 else 0


IMPL = Impl(forward, backward)
