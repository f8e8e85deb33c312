"""experts.singleton: two embeddings, read as dispatch.combine reads rows."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arithmetic import multiply
from moespec_numba_cuda._arrays import common, convert, like, read
from moespec_numba_cuda.dispatch._combine import combine_rows, combine_to_rows, combine_to_weights
from moespec_numba_cuda.dispatch._counting_sort import counting_sort
from moespec_numba_cuda.experts._pointwise import through, values


def forward(x, indices, weights, w_in, w_out, *, activation="gelu"):
    admit("experts.singleton", x, indices, weights, w_in, w_out, activation=activation)
    (rows, w, embed, back), ids = common(x, weights, w_in, w_out), read(indices, "int64")
    g = combine_to_weights(embed, ids, rows)
    y = combine_rows(back, multiply(w, values(activation, g)), ids)
    return like(x, y), ((x, weights, w_in, w_out), ids, g, activation)


def backward(saved, dy):
    inputs, ids, g, activation = saved
    x, w, w_in, w_out, d = common(*inputs, dy)
    g = convert(g, d.dtype)
    h, dc = values(activation, g), combine_to_weights(w_out, ids, d)
    dg, found = through(activation, g, multiply(dc, w)), counting_sort(ids, len(w_in))
    grads = (combine_rows(w_in, dg, ids), multiply(dc, h), combine_to_rows(dg, x, found.order, found.offsets),
             combine_to_rows(multiply(w, h), d, found.order, found.offsets))
    return tuple(map(like, inputs, grads))


IMPL = Impl(forward, backward)
