"""experts.glu."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read
from moespec_numba._products import grouped, grouped_backward
from moespec_numba.experts._bias import add_bias, bias_gradient
from moespec_numba.experts._gated import gate, gating, ungate
from moespec_numba.experts._types import common, like


class Saved(NamedTuple):
    inputs: tuple               # rows, w_gate, w_up, w_down, dropout, b_gate, b_up, b_down
    offsets: np.ndarray         # E+1
    g: np.ndarray               # N F, gate pre-activations
    u: np.ndarray               # N F, up projections
    attrs: dict


def forward(rows, offsets, w_gate, w_up, w_down, dropout=None, b_gate=None, b_up=None, b_down=None, *, activation="silu",
            limit=None, limit_at="pre", alpha=1.0, up_offset=0.0, cap_gate=None, cap_up=None):
    inputs = rows, w_gate, w_up, w_down, dropout, b_gate, b_up, b_down
    attrs = {"activation": activation, "limit": limit, "limit_at": limit_at, "alpha": alpha, "up_offset": up_offset,
             "cap_gate": cap_gate, "cap_up": cap_up}
    OPS["experts.glu"].admit(rows, offsets, *inputs[1:], **attrs)
    (x, wg, wu, wd, mask, bg, bu, bd), bounds = common(*inputs), read(offsets, "int64")
    g, u = grouped(x, wg, bounds), grouped(x, wu, bounds)
    add_bias(g, bg, bounds)
    add_bias(u, bu, bounds)
    out = grouped(_hidden(g, u, mask, attrs), wd, bounds)
    add_bias(out, bd, bounds)
    return like(rows, out), Saved(inputs, bounds, g, u, attrs)


def backward(saved, dout):
    inputs, offsets, g, u, attrs = saved
    x, wg, wu, wd, mask, bg, bu, bd, dy, g, u = common(*inputs, dout, g, u)
    dg, dw_down = grouped_backward(dy, wd, _hidden(g, u, mask, attrs), offsets)
    du, scratch = empty(u.shape, u.dtype), empty((3, u.shape[1]), u.dtype)
    _through(gating(g.dtype, **attrs), g, u, g if mask is None else mask, mask is not None, scratch, dg, du)
    drows, dw_gate = grouped_backward(dg, wg, x, offsets)
    drows, dw_up = grouped_backward(du, wu, x, offsets, drows)
    biases = (bias_gradient(d, b, offsets) for d, b in ((dg, bg), (du, bu), (dy, bd)))
    return tuple(like(a, d) for a, d in zip((*inputs[:4], *inputs[5:]), (drows, dw_gate, dw_up, dw_down, *biases), strict=True))


def _hidden(g, u, mask, attrs):
    h = empty(g.shape, g.dtype)
    _gate(gating(g.dtype, **attrs), read(g), read(u), read(g if mask is None else mask), mask is not None, empty(g.shape[1], g.dtype), h)
    return h


@kernel
def _gate(a, g, u, mask, masked, z, h):
    for n in range(len(g)):
        gate(a, g[n], u[n], g.dtype.type(1), z, h[n])
        if masked:
            for j in range(g.shape[1]):
                h[n, j] *= mask[n, j]


@kernel
def _through(a, g, u, mask, masked, scratch, dh, du):
    """dh becomes dg, `du` is written."""
    for n in range(len(g)):
        if masked:
            for j in range(g.shape[1]):
                dh[n, j] *= mask[n, j]
        ungate(a, g[n], u[n], g.dtype.type(1), scratch[0], scratch[1], scratch[2], dh[n], du[n])


IMPL = Impl(forward, backward)
