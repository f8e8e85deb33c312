"""dispatch.drop."""

from __future__ import annotations

import numpy as np

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import convert, empty, read
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda.dispatch._dense import every
from moespec_numba_cuda.dispatch._serving import by_choice, places, ranked, served_keys
from moespec_numba_cuda.gates._order import above


def forward(indices, priority=None, noise=None, group=None, *, experts, capacity, order="choice"):
    dims = admit("dispatch.drop", indices, priority, noise, group, experts=experts, capacity=capacity, order=order)
    ids = read(indices, "int64")
    if capacity is None:
        return convert(ids, "int64"), None
    place = places(served_keys(ids, group, experts), _served(ids, priority, noise, order), (dims.T + 1) * experts)
    kept = empty(ids.shape, "int64")
    _keep(items(dims.T), ids, place, capacity, kept)
    return kept, None


def _served(ids, priority, noise, order):
    """Flat entries in the order of service."""
    if order == "token":
        return every(1, ids.size)
    if order == "score":
        return ranked(priority)
    if order == "batch":
        best = empty(len(ids), read(priority).dtype)
        _best(items(len(ids)), ids, read(priority), best)
        return by_choice(ids.shape[0], ids.shape[1], ranked(best))
    return by_choice(ids.shape[0], ids.shape[1], ranked(noise, ascending=True) if order == "random" else None)


@kernel("i2 T2 T1")
def _best(ids, priority, best):
    """The largest priority of a token's assignments, NaN above all."""
    for t in range(cuda.grid(1), ids.shape[0], cuda.gridsize(1)):
        best[t] = -np.inf
        for j in range(ids.shape[1]):
            if ids[t, j] >= 0 and above(priority[t, j], best[t]):
                best[t] = priority[t, j]


@kernel("i2 i2 i i2")
def _keep(ids, place, capacity, kept):
    for t in range(cuda.grid(1), ids.shape[0], cuda.gridsize(1)):
        for j in range(ids.shape[1]):
            kept[t, j] = ids[t, j] if 0 <= place[t, j] < capacity else -1


IMPL = Impl(forward)
