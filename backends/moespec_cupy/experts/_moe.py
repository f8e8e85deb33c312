"""experts.moe: the rows of the experts are read from the tokens, and never gathered."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import read
from moespec_cupy.dispatch._combine import combine_rows, combine_to_rows, combine_to_weights
from moespec_cupy.dispatch._counting_sort import counting_sort
from moespec_cupy.dispatch._plan import token_of
from moespec_cupy.experts._gated import Hidden, Parameters, experts_backward, experts_forward, gating
from moespec_cupy.experts._products import Groups, common, groups, like


class Saved(NamedTuple):
    inputs: tuple           # x, w_gate, w_up, w_down, dropout (none), b_gate, b_up, b_down
    weights: Any            # T K
    order: Any              # N     row -> assignment
    token: Any              # N     row -> token
    row: Any                # T K   assignment -> row
    own: Groups
    hidden: Hidden
    out: Any                # N D, what every expert gave
    shape: tuple


def forward(x, indices, weights, w_gate, w_up, w_down, b_gate=None, b_up=None, b_down=None, *, rows=None, **attrs):
    dims = admit("experts.moe", x, indices, weights, w_gate, w_up, w_down, b_gate, b_up, b_down, rows=rows, **attrs)
    plan = counting_sort(indices, dims.E, indices.size if rows is None else min(indices.size, rows))
    token, own = token_of(plan, indices), groups(plan.offsets)
    inputs, shape, w = (x, w_gate, w_up, w_down, None, b_gate, b_up, b_down), gating(**attrs), read(weights)
    tokens, *parameters = common(*inputs)
    out, hidden = experts_forward(tokens, Parameters(*parameters), own, shape, token)
    return like(x, combine_rows(out, w, plan.place)), Saved(inputs, w, plan.order, token, plan.place, own, hidden, out, shape)


def backward(saved, dy):
    x, *parameters = common(*saved.inputs)
    dy, row = read(dy, x.dtype), saved.row
    dweights = combine_to_weights(saved.out, saved.weights, row, dy)
    drows = combine_to_rows(saved.weights, dy, saved.order, None, len(saved.order), row.shape[1])
    drows, grads = experts_backward(x, Parameters(*parameters), saved.own, saved.shape, saved.hidden, drows, saved.token)
    dx, found = combine_rows(drows, None, row), zip(saved.inputs[1:4] + saved.inputs[5:], (*grads[:3], *grads[4:]), strict=True)
    return like(saved.inputs[0], dx), dweights, *(like(a, d) for a, d in found)


IMPL = Impl(forward, backward)
