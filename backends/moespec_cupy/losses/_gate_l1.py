"""losses.gate_l1."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, accumulation, empty, items, read
from moespec_cupy.losses._balance import coefficients, count_choices
from moespec_cupy.losses._mean import total

KERNELS = Kernels(__file__, "_gate_l1.cu")


class Saved(NamedTuple):
    weigh: Any              # T K   dL / dweights
    dtype: Any


def forward(indices, weights, mask=None, *, experts, k=None):
    dims, acc = admit("losses.gate_l1", indices, weights, mask, experts=experts, k=k), accumulation(weights.dtype)
    ids, weigh, terms = read(indices, "int64"), empty(weights.shape, acc), empty(weights.shape, acc)
    f, share = coefficients(count_choices(ids, experts, mask), mask, dims.T, "float64", scale=experts / (k or 1), per_token=1)
    KERNELS("gate_terms", items(ids.size), ids, read(weights), read(mask), None if k is None else f, share, weigh, terms, ids.size, dims.K, experts)
    return total(terms), Saved(weigh, weights.dtype)


def backward(saved, dloss):
    dweights = empty(saved.weigh.shape, saved.dtype)
    KERNELS("gate_terms_backward", items(dweights.size), saved.weigh, read(dloss), dweights, dweights.size)
    return dweights


IMPL = Impl(forward, backward)
