"""dispatch.reroute."""

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read, zeros
from moespec_numba.dispatch._serving import numbered
from moespec_numba.gates._order import above


def forward(indices, scores, group=None, *, capacity):
    dims = OPS["dispatch.reroute"].admit(indices, scores, group, capacity=capacity)
    if capacity is None:
        return indices.astype("int64"), None
    rows, groups = numbered(group, dims.T)
    room, kept = np.full((groups, dims.E), capacity), empty(indices.shape, "int64")
    _reroute(np.array(indices, "int64", order="C"), read(scores), rows, room, zeros((dims.T, dims.E), bool), kept)
    return kept, None


@kernel
def _reroute(asking, scores, group, room, asked, kept):
    left = 0
    for t in range(len(asking)):
        for j in range(asking.shape[1]):
            kept[t, j] = -1
            if asking[t, j] >= 0:
                asked[t, asking[t, j]] = True
                left += 1
    while left > 0:
        left -= _serve(asking, group, room, kept)
        left -= _ask_again(asking, scores, asked)


@kernel(entry=False)
def _serve(asking, group, room, kept):
    """One round, choice by choice; returns how many got a place."""
    served = 0
    for j in range(asking.shape[1]):
        for t in range(len(asking)):
            e = asking[t, j]
            if e >= 0 and room[group[t], e] > 0:
                room[group[t], e] -= 1
                kept[t, j], asking[t, j] = e, -1
                served += 1
    return served


@kernel(entry=False)
def _ask_again(asking, scores, asked):
    """Whoever was refused turns to the next expert; returns how many have none left."""
    given_up = 0
    for t in range(len(asking)):
        for j in range(asking.shape[1]):
            if asking[t, j] >= 0:
                asking[t, j] = _next(scores[t], asked[t])
                given_up += asking[t, j] < 0
    return given_up


@kernel(entry=False)
def _next(scores, asked):
    """The first expert in the normative order that was not asked yet, now asked; -1 if there is none."""
    best = -1
    for e in range(len(scores)):
        if not asked[e] and (best < 0 or above(scores[e], scores[best])):
            best = e
    if best >= 0:
        asked[best] = True
    return best


IMPL = Impl(forward)
