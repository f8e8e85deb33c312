"""gates.assign: tokens are let in one after the other, each along a shortest path of those that give way; by one block.

An expert with room for several tokens is one node with a price.  The reduced cost of a token at an expert is its cost there plus the
price, minus the same where it is now: never below 0, so that Dijkstra's method finds the cheapest way to a free place.
"""

from __future__ import annotations

import numpy as np

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import convert, empty, flat, read, zeros
from moespec_numba_cuda._chunks import chunks_of
from moespec_numba_cuda._device import cuda, device
from moespec_numba_cuda._kernel import THREADS, blocks, items, kernel


def forward(scores, indices=None):
    dims = admit("gates.assign", scores, indices)
    if indices is not None:
        return convert(read(indices), "int64"), None
    costs, least = read(scores, "float64"), empty(chunks_of(scores.size), "float64")
    finite = empty(costs.shape, "float64")
    _least(items(len(least)), flat(costs), least)
    _least_of_all(blocks(1, 1), least)
    _costs(items(costs.size), flat(costs), least, flat(finite))
    owner, members = empty((dims.T, 1), "int64"), empty((dims.E, dims.T // dims.E), "int64")
    place, parent, count = empty(dims.T, "int64"), empty(dims.E, "int64"), zeros(dims.E, "int64")
    price, distance, done = zeros(dims.E, "float64"), empty(dims.E, "float64"), empty(dims.E, "bool")
    _assign(blocks(1), finite, price, distance, done, parent, members, count, place, flat(owner))
    return owner, None


@kernel("d1 d1")
def _least(scores, least):
    """The smallest finite score of every chunk; inf if there is none."""
    chunks = len(least)
    for c in range(cuda.grid(1), chunks, cuda.gridsize(1)):
        found = np.inf
        for i in range(c * len(scores) // chunks, (c + 1) * len(scores) // chunks):
            if scores[i] - scores[i] == 0 and scores[i] < found:
                found = scores[i]
        least[c] = found


@kernel("d1")
def _least_of_all(least):
    """By one thread, into the first entry; 0 if there is none."""
    for c in range(1, len(least)):
        least[0] = min(least[0], least[c])
    if least[0] == np.inf:
        least[0] = 0


@kernel("d1 d1 d1")
def _costs(scores, least, costs):
    for i in range(cuda.grid(1), len(scores), cuda.gridsize(1)):
        costs[i] = -(scores[i] if scores[i] - scores[i] == 0 else least[0])


@device
def nearest(distance, done):
    """The nearest expert that is not done yet."""
    best = -1
    for e in range(len(distance)):
        if not done[e] and (best < 0 or distance[e] < distance[best]):
            best = e
    return best


@device
def give_way(token, expert, parent, members, count, place, owner):
    """Along the path that ends in a free place of `expert`: everyone moves on, and `token` takes the place that is left."""
    at = count[expert]
    count[expert] += 1
    while True:
        t = parent[expert]
        where, left = owner[t], place[t]
        owner[t], place[t], members[expert, at] = expert, at, t
        if t == token:
            return
        expert, at = where, left


@kernel("d2 d1 d1 b1 i1 i2 i1 i1 i1")
def _assign(costs, price, distance, done, parent, members, count, place, owner):
    """Every thread has experts of its own; all find the same nearest one."""
    tokens, experts = costs.shape
    mine, room = cuda.threadIdx.x, members.shape[1]
    for token in range(tokens):
        for e in range(mine, experts, THREADS):
            distance[e], parent[e], done[e] = costs[token, e] + price[e], token, False
        cuda.syncthreads()
        near = nearest(distance, done)
        while count[near] == room:
            cuda.syncthreads()                                      # everybody has found it
            if mine == 0:
                done[near] = True
            for e in range(mine, experts, THREADS):
                if e != near and not done[e]:
                    for m in range(room):
                        t = members[near, m]
                        far = distance[near] + (costs[t, e] + price[e] - (costs[t, near] + price[near]))
                        if far < distance[e]:
                            distance[e], parent[e] = far, t
            cuda.syncthreads()
            near = nearest(distance, done)
        cuda.syncthreads()
        for e in range(mine, experts, THREADS):
            if done[e]:
                price[e] += distance[near] - distance[e]
        if mine == 0:
            give_way(token, near, parent, members, count, place, owner)
        cuda.syncthreads()


IMPL = Impl(forward)
