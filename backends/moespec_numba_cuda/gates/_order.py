"""The normative order inside a kernel: NaN above every number, -0.0 equal to +0.0, ties to the lower index."""

from __future__ import annotations

from moespec_numba_cuda._device import device


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
