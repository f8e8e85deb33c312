"""gates.expert_choice."""

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy.gates._best_tokens import best_tokens, under_mask


def forward(scores, group=None, indices=None, *, capacity=None):
    admit("gates.expert_choice", scores, group, indices, capacity=capacity)
    ids = best_tokens(scores, capacity, group) if indices is None else indices.astype("int64", order="C")
    return (ids, under_mask(scores, ids)), ids


def backward(ids, dweights):
    return under_mask(dweights, ids)


IMPL = Impl(forward, backward)
