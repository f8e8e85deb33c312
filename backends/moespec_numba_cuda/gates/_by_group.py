"""Tokens that belong together, in groups of any ids; how many groups there are stays on the device."""

from __future__ import annotations

from typing import Any, NamedTuple

from moespec_numba_cuda._arrays import empty, read
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda.dispatch._counting_sort import counting_sort

BITS = 8                # of a digit


class Groups(NamedTuple):
    """Groups as kernels walk them, in ascending order of their ids; the last ones may be empty."""

    order: Any              # T     tokens, those of a group next to each other in ascending order; -1 at the end for negative ids
    starts: Any             # G+1   members of group g are at order[starts[g]] .. order[starts[g+1]-1]

    @property
    def most(self):
        """As many groups, or fewer."""
        return len(self.starts) - 1


def by_group(group, tokens):
    """The Groups of ids; None is one group."""
    order = empty(tokens, "int64")
    _in_order(items(tokens), order)
    if group is None:
        starts = empty(2, "int64")
        _one_group(items(2), tokens, starts)
        return Groups(order, starts)
    ids, keys, starts = read(group, "int64"), empty(tokens, "int64"), empty(tokens + 1, "int64")
    for shift in range(0, 64, BITS):                        # by one digit after the other, the lowest first
        _digits(items(tokens), ids, order, shift, keys)
        found, before = counting_sort(keys, 1 << BITS), order
        order = empty(tokens, "int64")
        _follow(items(tokens), before, found.order, order)
    _opens(items(tokens), ids, order, keys)
    _close(items(tokens + 1), counting_sort(keys, 1, tokens + 1).order, found.offsets, starts)
    return Groups(order, starts)


@kernel("i1")
def _in_order(order):
    for i in range(cuda.grid(1), len(order), cuda.gridsize(1)):
        order[i] = i


@kernel("i i1")
def _one_group(tokens, starts):
    for i in range(cuda.grid(1), 2, cuda.gridsize(1)):
        starts[i] = i * tokens


@kernel("i1 i1 i i1")
def _digits(ids, order, shift, keys):
    """Of the tokens in their order so far; who has no group has no digit."""
    for i in range(cuda.grid(1), len(order), cuda.gridsize(1)):
        t = order[i]
        keys[i] = (ids[t] >> shift) & ((1 << BITS) - 1) if t >= 0 and ids[t] >= 0 else -1


@kernel("i1 i1 i1")
def _follow(before, found, order):
    for i in range(cuda.grid(1), len(order), cuda.gridsize(1)):
        order[i] = before[found[i]] if found[i] >= 0 else -1


@kernel("i1 i1 i1")
def _opens(ids, order, keys):
    """0 at the first token of every group, -1 at others."""
    for i in range(cuda.grid(1), len(order), cuda.gridsize(1)):
        t = order[i]
        keys[i] = 0 if t >= 0 and (i == 0 or ids[order[i - 1]] != ids[t]) else -1


@kernel("i1 i1 i1")
def _close(opened, offsets, starts):
    """The groups that there are not begin where all members end."""
    for g in range(cuda.grid(1), len(starts), cuda.gridsize(1)):
        starts[g] = opened[g] if opened[g] >= 0 else offsets[len(offsets) - 1]
