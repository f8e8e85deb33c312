"""experts.singleton: two embeddings, read as dispatch.combine reads rows."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, accumulation, empty, items, read
from moespec_cupy.dispatch._combine import combine_rows, combine_to_rows, combine_to_weights
from moespec_cupy.dispatch._counting_sort import counting_sort
from moespec_cupy.experts._pointwise import NUMBER
from moespec_cupy.experts._products import common, like

KERNELS = Kernels(__file__, "_singleton.cu")


class Saved(NamedTuple):
    inputs: tuple           # x, weights, w_in, w_out
    indices: Any            # T K
    g: Any                  # T K, pre-activations, in the accumulation dtype
    activation: str


def forward(x, indices, weights, w_in, w_out, *, activation="gelu"):
    dims = admit("experts.singleton", x, indices, weights, w_in, w_out, activation=activation)
    rows, embed, back = common(x, w_in, w_out)
    acc = accumulation(rows.dtype)
    ids, w, c = read(indices, "int64"), read(weights, acc), empty(indices.shape, acc)
    g = combine_to_weights(embed, c, ids, rows)
    KERNELS("weigh_neurons", items(ids.size), g, w, ids, c, ids.size, dims.E, NUMBER[activation])
    return like(x, combine_rows(back, c, ids)), Saved((x, weights, w_in, w_out), ids, g, activation)


def backward(saved, dy):
    x, w_in, w_out, d = common(saved.inputs[0], *saved.inputs[2:], dy)
    w, ids, g, (experts, choices) = read(saved.inputs[1], saved.g.dtype), saved.indices, saved.g, (len(w_in), saved.indices.shape[1])
    dg, c, dw = empty(ids.shape, g.dtype), empty(ids.shape, g.dtype), empty(ids.shape, g.dtype)
    KERNELS("weigh_neurons_backward", items(ids.size), g, combine_to_weights(w_out, g, ids, d), w, ids, dg, c, dw,
            ids.size, experts, NUMBER[saved.activation])
    chosen = counting_sort(ids, experts)
    dw_in, dw_out = (combine_to_rows(a, b, chosen.order, chosen.offsets, experts, choices) for a, b in ((dg, x), (c, d)))
    return tuple(map(like, saved.inputs, (combine_rows(w_in, dg, ids), dw, dw_in, dw_out)))


IMPL = Impl(forward, backward)
