"""The best tokens of every expert, which batchwise and expert choice share."""

import numpy as np
from numba import prange

from moespec_numba._kernel import empty, kernel, read
from moespec_numba.gates._order import above, nth


def by_group(group, tokens):
    """(order, starts): the tokens of every group next to each other, in ascending order; None is one group."""
    if group is None:
        return np.arange(tokens), np.array([0, tokens])
    order = np.argsort(group, kind="stable")
    return order, np.append(np.flatnonzero(np.diff(group[order], prepend=-1)), tokens)


def best_tokens(scores, most, group=None):
    """[T, E]: column i holds i at the `most` best tokens of every group, ties to the earlier token, and -1 elsewhere."""
    ids = empty(scores.shape, "int64")
    order, starts = by_group(group, len(scores))
    _best_tokens(read(scores), read(order, "int64"), read(starts, "int64"), most, ids)
    return ids


def given_columns(indices):
    """A copy of a given mask."""
    return np.array(indices, "int64", order="C")


@kernel(parallel=True)
def _best_tokens(scores, order, starts, most, ids):
    for e in prange(scores.shape[1]):
        for group in range(len(starts) - 1):
            mine = order[starts[group]:starts[group + 1]]
            _mark(scores, mine, e, min(most, len(mine)), ids)


@kernel(entry=False)
def _mark(scores, mine, e, m, ids):
    """Every token above the m-th best score of its group, and of those equal to it the earliest until m are found."""
    for t in mine:
        ids[t, e] = -1
    if m == 0:
        return
    column = np.empty(len(mine), scores.dtype)
    for i, t in enumerate(mine):
        column[i] = scores[t, e]
    last = nth(column, m - 1)
    room = m
    for t in mine:
        if above(scores[t, e], last):
            ids[t, e] = e
            room -= 1
    for t in mine:
        if room > 0 and not above(scores[t, e], last) and not above(last, scores[t, e]):
            ids[t, e] = e
            room -= 1


@kernel
def under_mask(values, ids, out):
    """The values where the mask is on, 0 elsewhere."""
    for t in range(len(ids)):
        for e in range(ids.shape[1]):
            out[t, e] = values[t, e] if ids[t, e] >= 0 else 0
