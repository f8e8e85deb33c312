"""dispatch.one_hot."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read, zeros
from moespec_numba.dispatch._serving import by_choice, numbered


class Saved(NamedTuple):
    ids: np.ndarray         # T K
    place: np.ndarray       # T K   -1 = none
    dtype: np.dtype


def forward(indices, weights, *, experts, capacity):
    OPS["dispatch.one_hot"].admit(indices, weights, experts=experts, capacity=capacity)
    tokens, ids, place = len(indices), read(indices, "int64"), empty(indices.shape, "int64")
    by_choice(ids, read(np.arange(tokens), "int64"), numbered(None, tokens)[0], zeros((1, experts), "int64"), capacity, place)
    taken, combine = zeros((tokens, experts, capacity), bool), zeros((tokens, experts, capacity), weights.dtype)
    _fill(ids, place, read(weights), taken, combine)
    return (taken, combine), Saved(ids, read(place), weights.dtype)


def backward(saved, dcombine):
    dweights = empty(saved.ids.shape, saved.dtype)
    _read(saved.ids, saved.place, read(dcombine), dweights)
    return dweights


@kernel
def _fill(ids, place, weights, taken, combine):
    for t in range(len(ids)):
        for j in range(ids.shape[1]):
            if place[t, j] >= 0:
                taken[t, ids[t, j], place[t, j]] = True
                combine[t, ids[t, j], place[t, j]] = weights[t, j]


@kernel
def _read(ids, place, dcombine, dweights):
    for t in range(len(ids)):
        for j in range(ids.shape[1]):
            dweights[t, j] = dcombine[t, ids[t, j], place[t, j]] if place[t, j] >= 0 else 0


IMPL = Impl(forward, backward)
