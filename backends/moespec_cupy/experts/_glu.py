"""experts.glu."""

from typing import NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy.experts._gated import Hidden, Parameters, experts_backward, experts_forward, gating
from moespec_cupy.experts._products import Groups, common, groups, like


class Saved(NamedTuple):
    inputs: tuple           # rows, and the parameters in their order
    own: Groups
    hidden: Hidden
    shape: tuple


def forward(rows, offsets, w_gate, w_up, w_down, dropout=None, b_gate=None, b_up=None, b_down=None, **attrs):
    inputs = rows, w_gate, w_up, w_down, dropout, b_gate, b_up, b_down
    admit("experts.glu", rows, offsets, *inputs[1:], **attrs)
    (x, *parameters), own, shape = common(*inputs), groups(offsets), gating(**attrs)
    out, hidden = experts_forward(x, Parameters(*parameters), own, shape)
    return like(rows, out), Saved(inputs, own, hidden, shape)


def backward(saved, dout):
    x, *parameters, dy = common(*saved.inputs, dout)
    drows, grads = experts_backward(x, Parameters(*parameters), saved.own, saved.shape, saved.hidden, dy)
    found = zip(saved.inputs, (drows, *grads), strict=True)
    return tuple(like(a, d) for name, (a, d) in zip(("rows", *Parameters._fields), found, strict=True) if name != "dropout")


IMPL = Impl(forward, backward)
