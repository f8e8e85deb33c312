"""The normative order inside a kernel: NaN above every number, -0.0 equal to +0.0, ties to the lower index."""

from __future__ import annotations

from moespec_numba_cuda._arrays import empty, read
from moespec_numba_cuda._device import device
from moespec_numba_cuda._rows import legal

FEW = 16                # choices up to which a sorted list is the fastest


@device
def above(a, b):
    """Whether a comes before b in descending order, whatever their indices; false for a tie."""
    return a > b or (a != a and b == b)


@device
def before(scores, a, b):
    """Whether entry a comes before entry b."""
    return above(scores[a], scores[b]) or (a < b and not above(scores[b], scores[a]))


@device
def choose(scores, ids, best):
    """The len(ids) first of `scores`, best first; where there are too few, ids end with -1.  `best` is room for as many scores."""
    k = len(ids)
    if k > FEW:
        _choose_many(scores, ids)
        return
    held = 0
    for e in range(len(scores)):                            # insertion into a sorted list, of what beats the last one
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


@device
def _choose_many(scores, ids):
    """The same by a heap with the last of those held at its root, which is then taken apart from the end."""
    k = len(ids)
    held = min(len(scores), k)
    for e in range(held):
        ids[e] = e
    for at in range(held // 2 - 1, -1, -1):
        _sift(scores, ids, at, held)
    for e in range(held, len(scores)):
        if before(scores, e, ids[0]):
            ids[0] = e
            _sift(scores, ids, 0, held)
    for size in range(held - 1, 0, -1):
        last = ids[0]
        ids[0] = ids[size]
        ids[size] = last
        _sift(scores, ids, 0, size)
    for j in range(held, k):
        ids[j] = -1


@device
def _sift(scores, ids, at, size):
    """Let what is at a place of the heap sink below all that come after it."""
    e, child = ids[at], 2 * at + 1
    while child < size:
        if child + 1 < size and before(scores, ids[child], ids[child + 1]):
            child += 1
        if before(scores, ids[child], e):
            break
        ids[at] = ids[child]
        at, child = child, 2 * child + 1
    ids[at] = e


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
