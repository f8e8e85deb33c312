"""In which order assignments are served, and which place each gets with its expert."""

from __future__ import annotations

from moespec_numba_cuda._arrays import empty, flat, full, read
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda.dispatch._counting_sort import resort
from moespec_numba_cuda.gates._order import above


def by_choice(tokens, choices, first=None):
    """Flat entries t * K + j: all first choices, tokens in the order `first` (none: their own), then all second ones."""
    order = empty(tokens * choices, "int64")
    _by_choice(items(len(order)), empty(0, "int64") if first is None else first, tokens, choices, order)
    return order


def ranked(values, ascending=False):
    """Positions by descending value in the normative order, or by ascending value, NaN last; ties to the lower position.

    Every value counts those before it: n threads, n^2 comparisons.
    """
    order = empty(values.size, "int64")
    _rank(items(values.size), flat(read(values)), int(ascending), order)
    return order


def served_keys(ids, group, experts):
    """int64 [T, K]: a number for every pair of group and expert, -1 for nobody; below (T + 1) E.

    A group is called by its first token, as nobody knows how many there are.
    """
    keys = empty(ids.shape, "int64")
    _keys(items(ids.shape[0]), ids, empty(0, "int64") if group is None else read(group, "int64"), experts, keys)
    return keys


def places(keys, served, most):
    """[T, K]: how many of the same key are served before; -1 without a key."""
    order, place = resort(keys, served, most), full(keys.shape, -1, "int64")
    _places(items(len(order)), order, flat(keys), flat(place))
    return place


@kernel("i1 i i i1")
def _by_choice(first, tokens, choices, order):
    for n in range(cuda.grid(1), len(order), cuda.gridsize(1)):
        t = n % tokens
        order[n] = (first[t] if len(first) else t) * choices + n // tokens


@kernel("T1 i i1")
def _rank(values, ascending, order):
    for i in range(cuda.grid(1), len(values), cuda.gridsize(1)):
        rank = 0
        for k in range(len(values)):
            a, b = values[i], values[k]
            if ascending:
                a, b = b, a
            if above(b, a) or (k < i and not above(a, b)):
                rank += 1
        order[rank] = i


@kernel("i2 i1 i i2")
def _keys(ids, group, experts, keys):
    for t in range(cuda.grid(1), ids.shape[0], cuda.gridsize(1)):
        first = 0
        if len(group):
            while group[first] != group[t]:
                first += 1
        for j in range(ids.shape[1]):
            keys[t, j] = first * experts + ids[t, j] if 0 <= ids[t, j] < experts else -1


@kernel("i1 i1 i1")
def _places(order, keys, place):
    """Equal keys lie side by side: the first of them is found by halving."""
    for n in range(cuda.grid(1), len(order), cuda.gridsize(1)):
        if order[n] >= 0:
            low, high = 0, n
            while low < high:
                middle = (low + high) // 2
                if keys[order[middle]] < keys[order[n]]:
                    low = middle + 1
                else:
                    high = middle
            place[order[n]] = n - low
