"""experts.glu."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read
from moespec_numba.experts._activations import NUMBER
from moespec_numba.experts._gated import gate, ungate
from moespec_numba.experts._products import grouped, grouped_backward
from moespec_numba.experts._types import common, like


class Saved(NamedTuple):
    inputs: tuple               # rows, w_gate, w_up, w_down, dropout
    offsets: np.ndarray         # E+1
    g: np.ndarray               # N F, gate pre-activations
    u: np.ndarray               # N F, up projections
    activation: str


def forward(rows, offsets, w_gate, w_up, w_down, dropout=None, *, activation="silu"):
    OPS["experts.glu"].admit(rows, offsets, w_gate, w_up, w_down, dropout, activation=activation)
    inputs, bounds = (rows, w_gate, w_up, w_down, dropout), read(offsets, "int64")
    x, wg, wu, wd, mask = common(*inputs)
    g, u = grouped(x, wg, bounds), grouped(x, wu, bounds)
    out = grouped(_hidden(NUMBER[activation], g, u, mask), wd, bounds)
    return like(rows, out), Saved(inputs, bounds, g, u, activation)


def backward(saved, dout):
    inputs, offsets, g, u, activation = saved
    x, wg, wu, wd, mask, dy = common(*inputs, dout)
    g, u = common(g, u, dy)[:2]
    dg, dw_down = grouped_backward(dy, wd, _hidden(NUMBER[activation], g, u, mask), offsets)
    du, (s, slope) = empty(u.shape, u.dtype), empty((2, u.shape[1]), u.dtype)
    _through(NUMBER[activation], read(g), read(u), read(g if mask is None else mask), mask is not None, s, slope, dg, du)
    drows, dw_gate = grouped_backward(dg, wg, x, offsets)
    drows, dw_up = grouped_backward(du, wu, x, offsets, drows)
    return tuple(like(a, d) for a, d in zip(inputs[:4], (drows, dw_gate, dw_up, dw_down), strict=True))


def _hidden(number, g, u, mask):
    h = empty(g.shape, g.dtype)
    _gate(number, read(g), read(u), read(g if mask is None else mask), mask is not None, h)
    return h


@kernel
def _gate(kind, g, u, mask, masked, h):
    for n in range(len(g)):
        gate(kind, g[n], u[n], g.dtype.type(1), h[n])
        if masked:
            for j in range(g.shape[1]):
                h[n, j] *= mask[n, j]


@kernel
def _through(kind, g, u, mask, masked, s, slope, dh, du):
    """dh becomes dg, `du` is written."""
    for n in range(len(g)):
        if masked:
            for j in range(g.shape[1]):
                dh[n, j] *= mask[n, j]
        ungate(kind, g[n], u[n], g.dtype.type(1), s, slope, dh[n], du[n])


IMPL = Impl(forward, backward)
