"""dispatch.one_hot."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import convert, empty, read, zeros
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda.dispatch._serving import by_choice, places, served_keys


def forward(indices, weights, *, experts, capacity):
    dims = admit("dispatch.one_hot", indices, weights, experts=experts, capacity=capacity)
    ids, w = read(indices, "int64"), read(weights)
    place = places(served_keys(ids, None, experts), by_choice(*ids.shape), experts)
    taken, combine = zeros((dims.T, experts, capacity), "bool"), zeros((dims.T, experts, capacity), w.dtype)
    _fill(items(dims.T), ids, place, w, taken, combine)
    return (taken, convert(combine, weights.dtype)), (ids, place, weights.dtype)


def backward(saved, dcombine):
    ids, place, dtype = saved
    d = read(dcombine)
    dweights = empty(ids.shape, d.dtype)
    _read(items(len(ids)), ids, place, d, dweights)
    return convert(dweights, dtype)


@kernel("i2 i2 T2 b3 T3")
def _fill(ids, place, weights, taken, combine):
    for t in range(cuda.grid(1), ids.shape[0], cuda.gridsize(1)):
        for j in range(ids.shape[1]):
            if 0 <= place[t, j] < combine.shape[2]:
                taken[t, ids[t, j], place[t, j]] = True
                combine[t, ids[t, j], place[t, j]] = weights[t, j]


@kernel("i2 i2 T3 T2")
def _read(ids, place, dcombine, dweights):
    for t in range(cuda.grid(1), ids.shape[0], cuda.gridsize(1)):
        for j in range(ids.shape[1]):
            here = 0 <= place[t, j] < dcombine.shape[2]
            dweights[t, j] = dcombine[t, ids[t, j], place[t, j]] if here else 0


IMPL = Impl(forward, backward)
