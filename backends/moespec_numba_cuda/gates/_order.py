"""The normative order inside a kernel: NaN above every number, -0.0 equal to +0.0, ties to the lower index."""

from __future__ import annotations

from moespec_numba_cuda._arrays import empty, read
from moespec_numba_cuda._device import device
from moespec_numba_cuda._rows import legal


@device
def above(a, b):
    """Whether a comes before b in descending order, whatever their indices; false for a tie."""
    return a > b or (a != a and b == b)


@device
def choose(scores, ids, best):
    """The len(ids) first of `scores`, by insertion into a sorted list: a score enters only if it beats the last one.

    `best` is room for as many scores; where there are too few, ids end with -1.
    """
    k, held = len(ids), 0
    for e in range(len(scores)):
        s = scores[e]
        if held < k or above(s, best[k - 1]):
            at = held if held < k else k - 1
            while at > 0 and above(s, best[at - 1]):
                best[at] = best[at - 1]
                ids[at] = ids[at - 1]
                at -= 1
            best[at] = s
            ids[at] = e
            held = min(held + 1, k)
    for j in range(held, k):
        ids[j] = -1


def selection(indices, tokens, k):
    """(given, ids): the selection that is given, nothing where none is, and room for the one that is made."""
    given = empty((0, 0), "int64") if indices is None else read(indices, "int64")
    return given, empty((tokens, k) if indices is None else indices.shape, "int64")


@device
def select_row(scores, given, t, ids, best):
    """The first of `scores`, or what is given for token t; `best` is room for as many scores."""
    if len(given) == 0:
        choose(scores, ids, best)
    else:
        for j in range(len(ids)):
            ids[j] = legal(given[t, j], len(scores))
