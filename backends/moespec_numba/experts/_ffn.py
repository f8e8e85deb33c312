"""experts.ffn."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read
from moespec_numba._products import grouped, grouped_backward
from moespec_numba.experts._activations import NUMBER, value, value_and_slope
from moespec_numba.experts._bias import add_bias, bias_gradient
from moespec_numba.experts._types import common, like


class Saved(NamedTuple):
    inputs: tuple               # rows, w_in, w_out, b_in, b_out, dropout
    offsets: np.ndarray         # E+1
    g: np.ndarray               # N F, pre-activations
    activation: str


def forward(rows, offsets, w_in, w_out, b_in=None, b_out=None, dropout=None, *, activation="relu"):
    OPS["experts.ffn"].admit(rows, offsets, w_in, w_out, b_in, b_out, dropout, activation=activation)
    inputs, bounds = (rows, w_in, w_out, b_in, b_out, dropout), read(offsets, "int64")
    x, w1, w2, b1, b2, mask = common(*inputs)
    g = grouped(x, w1, bounds)
    add_bias(g, b1, bounds)
    out = grouped(_hidden(NUMBER[activation], g, mask), w2, bounds)
    add_bias(out, b2, bounds)
    return like(rows, out), Saved(inputs, bounds, g, activation)


def backward(saved, dout):
    inputs, offsets, g, activation = saved
    x, w1, w2, b1, b2, mask, dy = common(*inputs, dout)
    number, g = NUMBER[activation], read(g, dy.dtype)
    dg, dw2 = grouped_backward(dy, w2, _hidden(number, g, mask), offsets)
    _through(number, read(g), read(g if mask is None else mask), mask is not None, empty(g.shape[1], g.dtype), empty(g.shape[1], g.dtype), dg)
    dx, dw1 = grouped_backward(dg, w1, x, offsets)
    grads = dx, dw1, dw2, bias_gradient(dg, b1, offsets), bias_gradient(dy, b2, offsets)
    return tuple(like(a, d) for a, d in zip(inputs[:5], grads, strict=True))


def _hidden(number, g, mask):
    h = empty(g.shape, g.dtype)
    _activate(number, read(g), read(g if mask is None else mask), mask is not None, h)
    return h


@kernel
def _activate(kind, g, mask, masked, h):
    for n in range(len(g)):
        value(kind, g[n], h[n])
        if masked:
            for j in range(g.shape[1]):
                h[n, j] *= mask[n, j]


@kernel
def _through(kind, g, mask, masked, y, slope, dh):
    """dh becomes dg."""
    for n in range(len(g)):
        value_and_slope(kind, g[n], y, slope)
        for j in range(g.shape[1]):
            dh[n, j] *= slope[j] * mask[n, j] if masked else slope[j]


IMPL = Impl(forward, backward)
