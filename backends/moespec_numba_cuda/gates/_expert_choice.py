"""gates.expert_choice."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import like, read
from moespec_numba_cuda.gates._best_tokens import best_tokens
from moespec_numba_cuda.gates._masked import columns, under_mask


def forward(scores, group=None, indices=None, *, capacity=None):
    admit("gates.expert_choice", scores, group, indices, capacity=capacity)
    x = read(scores)
    ids = best_tokens(x, capacity, group) if indices is None else columns(indices)
    return (ids, like(scores, under_mask(x, ids))), ids


def backward(ids, dweights):
    return like(dweights, under_mask(read(dweights), ids))


IMPL = Impl(forward, backward)
