"""The normative order inside a kernel: NaN above every number, -0.0 equal to +0.0, ties to the lower index."""

import numpy as np

from moespec_numba._kernel import empty, kernel


@kernel(inline="always")
def above(a, b):
    """Whether a comes before b in descending order, whatever their indices; false for a tie."""
    return a > b or (a != a and b == b)


@kernel
def choose(scores, ids, best):
    """The len(ids) first of `scores`, by insertion into a sorted list: a score enters only if it beats the last one.

    `best` is room for as many scores.
    """
    k, held = len(ids), 0
    for e in range(len(scores)):
        s = scores[e]
        if held == k and not above(s, best[k - 1]):
            continue
        at = held if held < k else k - 1
        while at > 0 and above(s, best[at - 1]):
            best[at], ids[at] = best[at - 1], ids[at - 1]
            at -= 1
        best[at], ids[at] = s, e
        held = min(held + 1, k)


def selection(indices, tokens, k):
    """(ids, given): a copy of a given selection, or room for one to be chosen."""
    return (empty((tokens, k), "int64"), False) if indices is None else (np.array(indices, "int64", order="C"), True)
