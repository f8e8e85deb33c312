"""experts.constant."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, accumulation, empty, items, read, rows
from moespec_cupy.dispatch._combine import combine_to_rows
from moespec_cupy.dispatch._counting_sort import counting_sort
from moespec_cupy.experts._products import common, like

KERNELS = Kernels(__file__, "_constant.cu")


class Saved(NamedTuple):
    inputs: tuple           # x, weights, w_mix, v
    indices: Any            # T K
    shares: Any             # T K 2, of the token and of the constant, in the accumulation dtype
    first: int


def forward(x, indices, weights, w_mix, v, *, first):
    dims = admit("experts.constant", x, indices, weights, w_mix, v, first=first)
    tokens, mix, constants = common(x, w_mix, v)
    acc, ids, y = accumulation(tokens.dtype), read(indices, "int64"), empty(x.shape, tokens.dtype)
    w, shares = read(weights, acc), empty((*ids.shape, 2), acc)
    KERNELS("constant_shares", rows(ids.size), tokens, ids, mix, shares, ids.size, dims.K, dims.D, dims.Z, first)
    KERNELS("constant_mixed", rows(dims.T), tokens, ids, w, constants, shares, y, dims.T, dims.K, dims.D, dims.Z, first)
    return like(x, y), Saved((x, weights, w_mix, v), ids, shares, first)


def backward(saved, dy):
    x, w_mix, v, d = common(saved.inputs[0], *saved.inputs[2:], dy)
    ids, shares, (tokens, choices), (constants, width) = saved.indices, saved.shares, saved.indices.shape, v.shape
    w = read(saved.inputs[1], shares.dtype)
    dx, dw, dw_mix, z = empty(x.shape, x.dtype), empty(w.shape, w.dtype), empty(w_mix.shape, w_mix.dtype), empty(ids.shape, "int64")
    dlogits, of_constant = empty(shares.shape, shares.dtype), empty(ids.shape, shares.dtype)
    KERNELS("constant_to_choices", rows(ids.size), x, ids, w, v, shares, d, dw, dlogits, of_constant, z,
            ids.size, choices, width, constants, saved.first)
    KERNELS("constant_to_tokens", rows(tokens), w_mix, z, w, shares, dlogits, d, dx, tokens, choices, width, constants)
    chosen = counting_sort(z, constants)
    KERNELS("constant_to_mix", items(dw_mix.size), x, dlogits, chosen.order, chosen.offsets, dw_mix, choices, width, constants)
    dv = combine_to_rows(of_constant, d, chosen.order, chosen.offsets, constants, choices)
    return tuple(map(like, saved.inputs, (dx, dw, dw_mix, dv)))


IMPL = Impl(forward, backward)
