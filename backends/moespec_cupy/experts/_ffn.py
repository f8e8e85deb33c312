"""experts.ffn: gated experts without an up projection."""

from typing import NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy.experts._gated import Hidden, Parameters, experts_backward, experts_forward, gating
from moespec_cupy.experts._products import Groups, common, groups, like


class Saved(NamedTuple):
    inputs: tuple           # rows, w_in, w_out, b_in, b_out, dropout
    own: Groups
    hidden: Hidden
    shape: tuple


def forward(rows, offsets, w_in, w_out, b_in=None, b_out=None, dropout=None, *, activation="relu"):
    inputs = rows, w_in, w_out, b_in, b_out, dropout
    admit("experts.ffn", rows, offsets, *inputs[1:], activation=activation)
    (x, *parameters), own, shape = common(*inputs), groups(offsets), gating(activation)
    out, hidden = experts_forward(x, _parameters(*parameters), own, shape)
    return like(rows, out), Saved(inputs, own, hidden, shape)


def backward(saved, dout):
    x, *parameters, dy = common(*saved.inputs, dout)
    drows, grads = experts_backward(x, _parameters(*parameters), saved.own, saved.shape, saved.hidden, dy)
    found = drows, grads.w_gate, grads.w_down, grads.b_gate, grads.b_down
    return tuple(like(a, d) for a, d in zip(saved.inputs[:5], found, strict=True))


def _parameters(w_in, w_out, b_in, b_out, dropout):
    return Parameters(w_in, None, w_out, dropout, b_in, None, b_out)


IMPL = Impl(forward, backward)
