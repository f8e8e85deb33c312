"""experts.singleton: two embeddings, read as dispatch.combine reads rows."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, read
from moespec_numba.dispatch._combine import combine_rows, combine_to_rows, combine_to_weights
from moespec_numba.dispatch._rows import by_target
from moespec_numba.experts._pointwise import values, values_and_slopes
from moespec_numba.experts._types import common, like


class Saved(NamedTuple):
    inputs: tuple           # x, weights, w_in, w_out
    indices: np.ndarray     # T K
    g: np.ndarray           # T K   pre-activations
    activation: str


def forward(x, indices, weights, w_in, w_out, *, activation="gelu"):
    OPS["experts.singleton"].admit(x, indices, weights, w_in, w_out, activation=activation)
    rows, w, embed, back = common(x, weights, w_in, w_out)
    ids, g, y = read(indices, "int64"), empty(indices.shape, rows.dtype), empty(rows.shape, rows.dtype)
    combine_to_weights(embed, ids, rows, g)
    combine_rows(back, read(w * values(activation, g)), ids, y)
    return like(x, y), Saved((x, weights, w_in, w_out), ids, g, activation)


def backward(saved, dy):
    x, w, w_in, w_out, d = common(*saved.inputs, dy)
    ids, dc, dx, dw_in, dw_out = saved.indices, *(empty(a.shape, d.dtype) for a in (w, x, w_in, w_out))
    h, slope = values_and_slopes(saved.activation, saved.g)
    combine_to_weights(w_out, ids, d, dc)
    dg, c = read(dc * w * slope), read(w * h)
    combine_rows(w_in, dg, ids, dx)
    choices = by_target(ids, len(w_in))
    combine_to_rows(dg, x, *choices, dw_in)
    combine_to_rows(c, d, *choices, dw_out)
    return tuple(map(like, saved.inputs, (dx, dc * h, dw_in, dw_out)))


IMPL = Impl(forward, backward)
