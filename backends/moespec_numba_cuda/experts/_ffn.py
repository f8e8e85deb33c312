"""experts.ffn."""

from __future__ import annotations

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import common, convert, empty, like, read
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda.experts._activations import NUMBER, slope, value
from moespec_numba_cuda.experts._bias import add_bias, bias_gradient
from moespec_numba_cuda.experts._gated import factors
from moespec_numba_cuda.experts._products import nn, nt, tn


class Saved(NamedTuple):
    inputs: tuple           # rows, w_in, w_out, b_in, b_out, dropout
    offsets: Any            # E+1
    g: Any                  # N F, pre-activations
    activation: str


def forward(rows, offsets, w_in, w_out, b_in=None, b_out=None, dropout=None, *, activation="relu"):
    admit("experts.ffn", rows, offsets, w_in, w_out, b_in, b_out, dropout, activation=activation)
    inputs, own = (rows, w_in, w_out, b_in, b_out, dropout), read(offsets, "int64")
    x, w1, w2, b1, b2, mask = common(*inputs)
    g = nn(x, w1, own)
    add_bias(g, b1, own)
    out = nn(_hidden(activation, g, mask), w2, own)
    add_bias(out, b2, own)
    return like(rows, out), Saved(inputs, own, g, activation)


def backward(saved, dout):
    inputs, own, g, activation = saved
    x, w1, w2, b1, b2, mask, dy = common(*inputs, dout)
    g, dg = convert(g, dy.dtype), nt(dy, w2, own)
    dw2 = tn(_hidden(activation, g, mask), dy, own)
    _through(items(g.size), NUMBER[activation], g, factors(mask, g), dg)
    grads = nt(dg, w1, own), tn(x, dg, own), dw2, bias_gradient(dg, b1, own), bias_gradient(dy, b2, own)
    return tuple(map(like, inputs[:5], grads))


def _hidden(activation, g, mask):
    h = empty(g.shape, g.dtype)
    _activate(items(g.size), NUMBER[activation], g, factors(mask, g), h)
    return h


@kernel("i T2 T2 T2")
def _activate(kind, g, mask, h):
    width = g.shape[1]
    for i in range(cuda.grid(1), g.shape[0] * width, cuda.gridsize(1)):
        n, j = i // width, i % width
        y = value(kind, g[n, j])
        h[n, j] = y * mask[n, j] if mask.shape[0] else y


@kernel("i T2 T2 T2")
def _through(kind, g, mask, dh):
    """dh becomes dg."""
    width = g.shape[1]
    for i in range(cuda.grid(1), g.shape[0] * width, cuda.gridsize(1)):
        n, j = i // width, i % width
        factor = slope(kind, g[n, j])
        dh[n, j] *= factor * mask[n, j] if mask.shape[0] else factor


IMPL = Impl(forward, backward)
