"""experts.copy."""

from __future__ import annotations

import numpy as np

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import common, empty, like, read
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda._rows import inner


def forward(x, indices, weights, *, first, last=None):
    admit("experts.copy", x, indices, weights, first=first, last=last)
    z = within(indices, first, last)
    return like(x, _weighed(z, *common(x, weights))), (x, weights, z)


def backward(saved, dy):
    x, weights, z = saved
    rows, w, d = common(x, weights, dy)
    dw = empty(w.shape, w.dtype)
    _to_weights(items(len(rows)), rows, z, d, dw)
    return like(x, _weighed(z, d, w)), like(weights, dw)


def within(indices, first, last):
    """int64[T, K]: ids counted from `first`, -1 for those below it and from `last` on."""
    z = empty(indices.shape, "int64")
    _within(items(len(z)), read(indices, "int64"), first, np.iinfo("int64").max if last is None else last, z)
    return z


def _weighed(z, rows, w):
    out = empty(rows.shape, rows.dtype)
    _weigh(items(out.size), rows, z, w, out)
    return out


@kernel("i2 i i i2")
def _within(indices, first, end, z):
    for t in range(cuda.grid(1), z.shape[0], cuda.gridsize(1)):
        for j in range(z.shape[1]):
            z[t, j] = indices[t, j] - first if first <= indices[t, j] < end else -1


@kernel("T2 i2 T2 T2")
def _weigh(rows, z, weights, out):
    width = out.shape[1]
    for i in range(cuda.grid(1), out.shape[0] * width, cuda.gridsize(1)):
        t, d = i // width, i % width
        total, some = rows.dtype.type(0), False
        for j in range(z.shape[1]):
            if z[t, j] >= 0:
                total += weights[t, j]
                some = True
        out[t, d] = total * rows[t, d] if some else 0


@kernel("T2 i2 T2 T2")
def _to_weights(x, z, dy, dweights):
    for t in range(cuda.grid(1), x.shape[0], cuda.gridsize(1)):
        for j in range(z.shape[1]):
            dweights[t, j] = inner(x[t], dy[t]) if z[t, j] >= 0 else 0


IMPL = Impl(forward, backward)
