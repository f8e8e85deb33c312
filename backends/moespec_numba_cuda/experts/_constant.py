"""experts.constant."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import common, empty, like
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda._math import exp
from moespec_numba_cuda._rows import inner
from moespec_numba_cuda.dispatch._counting_sort import counting_sort
from moespec_numba_cuda.experts._copy import within


def forward(x, indices, weights, w_mix, v, *, first):
    dims = admit("experts.constant", x, indices, weights, w_mix, v, first=first)
    (rows, w, mix, constants), z = common(x, weights, w_mix, v), within(indices, first, first + dims.Z)
    shares, y = empty((*z.shape, 2), rows.dtype), empty(rows.shape, rows.dtype)
    _share(items(z.size), rows, z, mix, shares)
    _mix(items(y.size), rows, z, w, shares, constants, y)
    return like(x, y), ((x, weights, w_mix, v), z, shares)


def backward(saved, dy):
    inputs, z, shares = saved
    x, w, mix, v, a, d = common(*inputs, shares, dy)
    dx, dw, dmix, dv, dlogits = (empty(b.shape, x.dtype) for b in (x, w, mix, v, a))
    _to_choices(items(z.size), x, z, w, a, v, d, dw, dlogits)
    _to_tokens(items(dx.size), z, w, mix, a, d, dlogits, dx)
    found = counting_sort(z, len(v))
    _to_experts(items(dv.size), x, found.order, found.offsets, w, a, d, dlogits, dmix, dv)
    return tuple(map(like, inputs, (dx, dw, dmix, dv)))


@kernel("T2 i2 T3 T3")
def _share(x, z, w_mix, shares):
    """The softmax of a token's two logits with the expert of a choice."""
    choices = z.shape[1]
    for i in range(cuda.grid(1), x.shape[0] * choices, cuda.gridsize(1)):
        t, j = i // choices, i % choices
        shares[t, j, 0] = 0
        shares[t, j, 1] = 0
        if z[t, j] >= 0:
            own, constant = x.dtype.type(0), x.dtype.type(0)
            for d in range(x.shape[1]):
                own += x[t, d] * w_mix[z[t, j], d, 0]
                constant += x[t, d] * w_mix[z[t, j], d, 1]
            top = constant if constant > own else own
            own, constant = exp(own - top), exp(constant - top)
            shares[t, j, 0] = own / (own + constant)
            shares[t, j, 1] = constant / (own + constant)


@kernel("T2 i2 T2 T3 T2 T2")
def _mix(x, z, weights, shares, v, y):
    width = x.shape[1]
    for i in range(cuda.grid(1), x.shape[0] * width, cuda.gridsize(1)):
        t, d = i // width, i % width
        total = x.dtype.type(0)
        for j in range(z.shape[1]):
            if z[t, j] >= 0:
                total += weights[t, j] * (shares[t, j, 0] * x[t, d] + shares[t, j, 1] * v[z[t, j], d])
        y[t, d] = total


@kernel("T2 i2 T2 T3 T2 T2 T2 T3")
def _to_choices(x, z, weights, shares, v, dy, dweights, dlogits):
    choices = z.shape[1]
    for i in range(cuda.grid(1), x.shape[0] * choices, cuda.gridsize(1)):
        t, j = i // choices, i % choices
        dweights[t, j] = 0
        dlogits[t, j, 0] = 0
        dlogits[t, j, 1] = 0
        if z[t, j] >= 0:
            own, constant = shares[t, j, 0], shares[t, j, 1]
            to_own, to_constant = inner(x[t], dy[t]), inner(v[z[t, j]], dy[t])
            mean = own * to_own + constant * to_constant
            dweights[t, j] = mean
            dlogits[t, j, 0] = weights[t, j] * own * (to_own - mean)
            dlogits[t, j, 1] = weights[t, j] * constant * (to_constant - mean)


@kernel("i2 T2 T3 T3 T2 T3 T2")
def _to_tokens(z, weights, w_mix, shares, dy, dlogits, dx):
    width = dx.shape[1]
    for i in range(cuda.grid(1), dx.shape[0] * width, cuda.gridsize(1)):
        t, d = i // width, i % width
        total = dy.dtype.type(0)
        for j in range(z.shape[1]):
            e = z[t, j]
            if e >= 0:
                total += shares[t, j, 0] * (weights[t, j] * dy[t, d]) + (w_mix[e, d, 0] * dlogits[t, j, 0] + w_mix[e, d, 1] * dlogits[t, j, 1])
        dx[t, d] = total


@kernel("T2 i1 i1 T2 T3 T2 T3 T3 T2")
def _to_experts(x, order, offsets, weights, shares, dy, dlogits, dw_mix, dv):
    """Expert by expert; `order` holds flat entries t * K + j."""
    width, choices = x.shape[1], weights.shape[1]
    for i in range(cuda.grid(1), dv.shape[0] * width, cuda.gridsize(1)):
        e, d = i // width, i % width
        own, constant, vector = x.dtype.type(0), x.dtype.type(0), x.dtype.type(0)
        for n in range(offsets[e], offsets[e + 1]):
            t, j = order[n] // choices, order[n] % choices
            own += x[t, d] * dlogits[t, j, 0]
            constant += x[t, d] * dlogits[t, j, 1]
            vector += weights[t, j] * shares[t, j, 1] * dy[t, d]
        dw_mix[e, d, 0] = own
        dw_mix[e, d, 1] = constant
        dv[e, d] = vector


IMPL = Impl(forward, backward)
