"""experts.constant."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._exp import exp_down
from moespec_numba._kernel import OPS, REORDER, empty, kernel, read
from moespec_numba._vector import clear
from moespec_numba.dispatch._rows import by_target
from moespec_numba.experts._copy import within
from moespec_numba.experts._types import common, like


class Saved(NamedTuple):
    inputs: tuple           # x, weights, w_mix, v
    z: np.ndarray           # T K   which constant expert, -1 = none
    shares: np.ndarray      # T K 2


def forward(x, indices, weights, w_mix, v, *, first):
    dims = OPS["experts.constant"].admit(x, indices, weights, w_mix, v, first=first)
    rows, w, mix, constants = common(x, weights, w_mix, v)
    saved = Saved((x, weights, w_mix, v), within(indices, first, first + dims.Z), empty((*indices.shape, 2), rows.dtype))
    y = empty(x.shape, rows.dtype)
    _forward(rows, saved.z, w, mix, constants, saved.shares, y)
    return like(x, y), saved


def backward(saved, dy):
    x, w, mix, v, shares, d = common(*saved.inputs, saved.shares, dy)
    dx, dw, dmix, dv, dlogits = (empty(a.shape, x.dtype) for a in (x, w, mix, v, shares))
    _to_tokens(x, saved.z, w, mix, v, shares, d, dx, dw, dlogits)
    _to_experts(x, *by_target(saved.z, len(v)), w, shares, d, read(dlogits), dmix, dv)
    return tuple(map(like, saved.inputs, (dx, dw, dmix, dv)))


@kernel
def _forward(x, z, weights, w_mix, v, shares, y):
    for t in range(len(y)):
        clear(y[t])
        for j in range(z.shape[1]):
            e, w = z[t, j], weights[t, j]
            if e < 0:
                shares[t, j] = 0
                continue
            own, constant = _products(x[t], w_mix[e, :, 0], x[t], w_mix[e, :, 1])
            top = constant if constant > own else own
            own, constant = exp_down(own - top), exp_down(constant - top)
            total = own + constant
            own, constant = own / total, constant / total
            shares[t, j, 0], shares[t, j, 1] = own, constant
            for i in range(x.shape[1]):
                y[t, i] += w * (own * x[t, i] + constant * v[e, i])


@kernel
def _to_tokens(x, z, weights, w_mix, v, shares, dy, dx, dweights, dlogits):
    for t in range(len(dx)):
        clear(dx[t])
        for j in range(z.shape[1]):
            e, w, own, constant = z[t, j], weights[t, j], shares[t, j, 0], shares[t, j, 1]
            if e < 0:
                dweights[t, j] = 0
                continue
            to_own, to_constant = _products(x[t], dy[t], v[e], dy[t])
            mean = own * to_own + constant * to_constant
            a, b = w * own * (to_own - mean), w * constant * (to_constant - mean)
            dweights[t, j], dlogits[t, j, 0], dlogits[t, j, 1] = mean, a, b
            for i in range(x.shape[1]):
                dx[t, i] += own * (w * dy[t, i]) + (w_mix[e, i, 0] * a + w_mix[e, i, 1] * b)


@kernel
def _to_experts(x, source, offsets, weights, shares, dy, dlogits, dw_mix, dv):
    """Expert by expert; `source` holds flat positions t * K + j."""
    for e in range(len(dv)):
        dw_mix[e], dv[e] = 0, 0
        for n in range(offsets[e], offsets[e + 1]):
            t, j = divmod(source[n], weights.shape[1])
            a, b, factor = dlogits[t, j, 0], dlogits[t, j, 1], weights[t, j] * shares[t, j, 1]
            for i in range(x.shape[1]):
                dw_mix[e, i, 0] += x[t, i] * a
                dw_mix[e, i, 1] += x[t, i] * b
                dv[e, i] += factor * dy[t, i]


@kernel(fastmath=REORDER, entry=False)
def _products(a, b, c, d):
    """<a, b> and <c, d>, in one pass."""
    first, second = a.dtype.type(0), a.dtype.type(0)
    for i in range(len(a)):
        first += a[i] * b[i]
        second += c[i] * d[i]
    return first, second


IMPL = Impl(forward, backward)
