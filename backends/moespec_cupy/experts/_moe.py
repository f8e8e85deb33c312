"""experts.moe: the rows of the experts are read from the tokens, and never gathered."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import read
from moespec_cupy.dispatch._combine import combine_backward, combine_rows
from moespec_cupy.dispatch._counting_sort import Sorted, counting_sort
from moespec_cupy.experts._gated import Hidden, Parameters, experts_backward, experts_forward, gating
from moespec_cupy.experts._products import common, like


class Saved(NamedTuple):
    inputs: tuple           # x, w_gate, w_up, w_down, dropout (none), b_gate, b_up, b_down
    weights: Any            # T K
    plan: Sorted
    hidden: Hidden
    out: Any                # N D, what every expert gave
    shape: tuple


def forward(x, indices, weights, w_gate, w_up, w_down, b_gate=None, b_up=None, b_down=None, *, rows=None, **attrs):
    dims = admit("experts.moe", x, indices, weights, w_gate, w_up, w_down, b_gate, b_up, b_down, rows=rows, **attrs)
    plan = counting_sort(indices, dims.E, indices.size if rows is None else min(indices.size, rows))
    inputs, shape, w = (x, w_gate, w_up, w_down, None, b_gate, b_up, b_down), gating(**attrs), read(weights)
    tokens, *parameters = common(*inputs)
    out, hidden = experts_forward(tokens, Parameters(*parameters), plan.offsets, shape, plan.source)
    return like(x, combine_rows(out, w, plan.place)), Saved(inputs, w, plan, hidden, out, shape)


def backward(saved, dy):
    (x, *parameters), plan = common(*saved.inputs), saved.plan
    drows, dweights = combine_backward(saved.out, saved.weights, plan.place, read(dy, x.dtype))
    drows, grads = experts_backward(x, Parameters(*parameters), plan.offsets, saved.shape, saved.hidden, drows, plan.source)
    dx, found = combine_rows(drows, None, plan.place), zip(saved.inputs[1:4] + saved.inputs[5:], (*grads[:3], *grads[4:]), strict=True)
    return like(saved.inputs[0], dx), dweights, *(like(a, d) for a, d in found)


IMPL = Impl(forward, backward)
