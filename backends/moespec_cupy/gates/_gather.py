"""gates.gather."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, empty, items, read, rows

KERNELS = Kernels(__file__, "_gather.cu")


class Saved(NamedTuple):
    indices: Any            # T K
    experts: int


def forward(scores, indices, *, missing=0.0):
    admit("gates.gather", scores, indices, missing=missing)
    return gather(scores, indices, missing)


def gather(scores, indices, missing=0.0):
    """(chosen, saved) of what was admitted."""
    ids, chosen, experts = read(indices, "int64"), empty(indices.shape, scores.dtype), scores.shape[1]
    KERNELS("gather", items(ids.size), read(scores), ids, missing, chosen, ids.size, ids.shape[1], experts)
    return chosen, Saved(ids, experts)


def backward(saved, dchosen):
    (tokens, k), experts = saved.indices.shape, saved.experts
    dscores = empty((tokens, experts), dchosen.dtype)
    KERNELS("gather_backward", rows(tokens), read(dchosen), saved.indices, dscores, tokens, k, experts)
    return dscores


IMPL = Impl(forward, backward)
