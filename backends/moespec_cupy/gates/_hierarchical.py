"""gates.hierarchical."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, accumulation, empty, read, rows

KERNELS = Kernels(__file__, "_hierarchical.cu")


class Saved(NamedTuple):
    group_weights: Any      # T A
    indices: Any            # T B
    shares: Any             # T B   the secondary weights, in the accumulation dtype
    k: int
    experts: int
    dtype: Any              # of the logits


def forward(group_indices, group_weights, logits, indices=None, *, k, groups):
    dims = admit("gates.hierarchical", group_indices, group_weights, logits, indices, k=k, groups=groups)
    shape, wide = (dims.T, dims.A * k), accumulation(group_weights.dtype, logits.dtype)
    saved = Saved(read(group_weights), empty(shape, "int64"), empty(shape, wide), k, dims.E, logits.dtype)
    weights = empty(shape, logits.dtype)
    KERNELS("hierarchical", rows(dims.T * dims.A), read(group_indices, "int64"), saved.group_weights, read(logits), read(indices, "int64"),
            saved.indices, saved.shares, weights, dims.T * dims.A, dims.A, dims.E, k, groups)
    return (saved.indices, weights), saved


def backward(saved, dweights):
    (tokens, choices), count = saved.indices.shape, saved.group_weights.size
    dgroups, dchosen = empty(saved.group_weights.shape, saved.group_weights.dtype), empty(saved.shares.shape, saved.shares.dtype)
    dlogits = empty((tokens, saved.experts), saved.dtype)
    KERNELS("hierarchical_to_chosen", rows(count), *saved[:3], read(dweights), dgroups, dchosen, count, saved.k)
    KERNELS("hierarchical_to_logits", rows(tokens), dchosen, saved.indices, dlogits, tokens, saved.experts, choices)
    return dgroups, dlogits


IMPL = Impl(forward, backward)
