"""Dense products: those of one expert, or of groups of tokens."""

from __future__ import annotations

from typing import Any, NamedTuple

from moespec_numba_cuda._arrays import empty
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda.dispatch._counting_sort import counting_sort
from moespec_numba_cuda.dispatch._take import take_rows


class Groups(NamedTuple):
    """The tokens of every group; without a group of their own they stay as they are."""

    order: Any              # T     sorted place -> token, or None
    place: Any              # T     token -> sorted place, or None
    offsets: Any            # G+1

    def sort(self, x):
        return x if self.order is None else take_rows(x, self.order)

    def unsort(self, x):
        return x if self.place is None else take_rows(x, self.place)


def groups_of(group, tokens, groups=1):
    """The tokens of group 0, 1, ...; None is one group."""
    return Groups(None, None, one_group(tokens)) if group is None else Groups(*counting_sort(group, groups))


def one_group(rows):
    """The offsets of all rows as those of one expert."""
    offsets = empty(2, "int64")
    _every(items(2), rows, offsets)
    return offsets


def every(step, count):
    """int64: 0, step, 2 step, ..., count numbers."""
    numbers = empty(count, "int64")
    _every(items(count), step, numbers)
    return numbers


def swapped(x):
    """[B, A, D] of x [A, B, D]."""
    a, b, width = x.shape
    y = empty((b, a, width), x.dtype)
    _swap(items(y.size), x, y)
    return y


@kernel("i i1")
def _every(step, numbers):
    for i in range(cuda.grid(1), len(numbers), cuda.gridsize(1)):
        numbers[i] = step * i


@kernel("T3 T3")
def _swap(x, y):
    b, a, width = y.shape
    for i in range(cuda.grid(1), b * a * width, cuda.gridsize(1)):
        n, d = i // width, i % width
        y[n // a, n % a, d] = x[n % a, n // a, d]
