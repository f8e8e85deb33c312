"""gates.expert_choice."""

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, read
from moespec_numba.gates._best_tokens import best_tokens, given_columns, under_mask


def forward(scores, group=None, indices=None, *, capacity=None):
    OPS["gates.expert_choice"].admit(scores, group, indices, capacity=capacity)
    ids = best_tokens(scores, capacity, group) if indices is None else given_columns(indices)
    weights = empty(scores.shape, scores.dtype)
    under_mask(read(scores), read(ids), weights)
    return (ids, weights), read(ids)


def backward(ids, dweights):
    dscores = empty(ids.shape, dweights.dtype)
    under_mask(read(dweights), ids, dscores)
    return dscores


IMPL = Impl(forward, backward)
