"""experts.glu."""

from __future__ import annotations

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arithmetic import add
from moespec_numba_cuda._arrays import common, like, read
from moespec_numba_cuda.experts._bias import add_bias, bias_gradient
from moespec_numba_cuda.experts._gated import Gating, gating, hidden, through_hidden
from moespec_numba_cuda.experts._products import nn, nt, tn


class Saved(NamedTuple):
    inputs: tuple           # rows, w_gate, w_up, w_down, dropout, b_gate, b_up, b_down
    offsets: Any            # E+1
    g: Any                  # N F, gate pre-activations
    u: Any                  # N F, up projections
    gating: Gating


def forward(rows, offsets, w_gate, w_up, w_down, dropout=None, b_gate=None, b_up=None, b_down=None, **attrs):
    inputs = rows, w_gate, w_up, w_down, dropout, b_gate, b_up, b_down
    admit("experts.glu", rows, offsets, *inputs[1:], **attrs)
    (x, wg, wu, wd, mask, bg, bu, bd), own, a = common(*inputs), read(offsets, "int64"), gating(**attrs)
    g, u = nn(x, wg, own), nn(x, wu, own)
    add_bias(g, bg, own)
    add_bias(u, bu, own)
    out = nn(hidden(a, g, u, mask), wd, own)
    add_bias(out, bd, own)
    return like(rows, out), Saved(inputs, own, g, u, a)


def backward(saved, dout):
    inputs, own, _, _, a = saved
    x, wg, wu, wd, mask, bg, bu, bd, dy, g, u = common(*inputs, dout, saved.g, saved.u)
    dw_down = tn(hidden(a, g, u, mask), dy, own)
    dg, du = through_hidden(a, g, u, mask, nt(dy, wd, own))
    grads = add(nt(dg, wg, own), nt(du, wu, own)), tn(x, dg, own), tn(x, du, own), dw_down
    biases = (bias_gradient(d, b, own) for d, b in ((dg, bg), (du, bu), (dy, bd)))
    return tuple(map(like, (*inputs[:4], *inputs[5:]), (*grads, *biases)))


IMPL = Impl(forward, backward)
