"""The normative order inside a kernel: NaN above every number, -0.0 equal to +0.0, ties to the lower index."""

import numpy as np

from moespec_numba._kernel import empty, kernel


@kernel(inline="always")
def above(a, b):
    """Whether a comes before b in descending order, whatever their indices; false for a tie."""
    return a > b or (a != a and b == b)


@kernel(entry=False)
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


@kernel(entry=False)
def nth(values, n):
    """The value that n others come before in descending order, by quickselect; the values are rearranged.

    Pivots are drawn, in the same way every time: no usual arrangement (rising and falling, say) makes it quadratic.
    """
    low, high, draw = 0, len(values) - 1, 1
    while low < high:
        draw = draw * 1103515245 + 12345 & 0x7FFFFFFF
        pivot, i, j = values[low + draw % (high - low + 1)], low, high
        while i <= j:
            while above(values[i], pivot):
                i += 1
            while above(pivot, values[j]):
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i, j = i + 1, j - 1
        if j < n < i:
            break
        low, high = (low, j) if n <= j else (i, high)
    return values[n]


def selection(indices, tokens, k):
    """(ids, given): a copy of a given selection, or room for one to be chosen."""
    return (empty((tokens, k), "int64"), False) if indices is None else (np.array(indices, "int64", order="C"), True)
