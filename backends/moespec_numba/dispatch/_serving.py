"""In which order assignments are served, and which place each gets."""

import numpy as np

from moespec_numba._kernel import kernel, read, zeros


def descending(x):
    """int64[n]: positions by descending x; NaN first, ties to the lower position."""
    return len(x) - 1 - np.argsort(x[::-1], kind="stable")[::-1]          # NumPy puts NaN last


def numbered(group, tokens):
    """(int64[T], how many): the groups numbered from 0 without gaps; None is one group."""
    if group is None:
        return read(zeros(tokens, "int64")), 1
    ids, at = np.unique(group, return_inverse=True)
    return read(at, "int64"), len(ids)


@kernel
def by_choice(ids, tokens, group, taken, capacity, place):
    """All first choices, tokens in the given order, then all second ones: place[t, j], and -1 from `capacity` on or without an id."""
    for j in range(ids.shape[1]):
        for t in tokens:
            _serve(t, j, ids, group, taken, capacity, place)


@kernel
def by_position(ids, served, group, taken, capacity, place):
    """Flat positions t * K + j in the given order."""
    for at in served:
        _serve(at // ids.shape[1], at % ids.shape[1], ids, group, taken, capacity, place)


@kernel(inline="always")
def _serve(t, j, ids, group, taken, capacity, place):
    place[t, j] = -1
    if ids[t, j] >= 0:
        before = taken[group[t], ids[t, j]]
        taken[group[t], ids[t, j]] = before + 1
        if before < capacity:
            place[t, j] = before
