"""losses.hierarchical_load_cv2."""

from __future__ import annotations

from typing import Any, NamedTuple

from moespec.numerics import acc
from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import empty, flat, read
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda.losses._chances import Chances, chances, chances_backward
from moespec_numba_cuda.losses._cv2 import cv2, cv2_backward
from moespec_numba_cuda.losses._mean import at_least_one, column_sums, masked


class Saved(NamedTuple):
    first: Chances          # of the primary gate, a row per token
    second: Chances         # of the secondary gates, a row per token and group
    loads: tuple[Any, ...]  # primary load [G]; secondary load of the group's tokens [E]; these tokens, at least 1 [G]
    both: Any               # E     hierarchical load
    moments: Any            # 2


def forward(clean_primary, sigma_primary, logits_primary, clean, sigma, noisy, group_indices, order_primary=None, order=None, *,
            k_primary, k, groups):
    dims = admit("losses.hierarchical_load_cv2", clean_primary, sigma_primary, logits_primary, clean, sigma, noisy, group_indices,
                 order_primary, order, k_primary=k_primary, k=k, groups=groups)
    rows, size, member = dims.T * groups, dims.E // groups, empty((dims.T, groups), "float64")
    _members(items(member.size), read(group_indices, "int64"), member)
    p, first = chances(clean_primary, sigma_primary, logits_primary, order_primary, k_primary, (dims.T, groups))
    q, second = chances(clean, sigma, noisy, order, k, (rows, size), flat(member))
    primary, sent = column_sums(p, masked(None)), column_sums(q.reshape(dims.T, dims.E), masked(None))
    loads, both = (primary, sent, at_least_one(column_sums(member, masked(None)))), empty(dims.E, "float64")
    _hierarchical(items(dims.E), *loads, both)
    loss, moments = cv2(both, acc(clean_primary))
    orders = first.order, second.order.reshape(dims.T, groups * second.order.shape[1])
    return (loss, *orders), Saved(first, second, loads, both, moments)


def backward(saved, dloss):
    d, groups = cv2_backward(saved.both, saved.moments, dloss), len(saved.loads[0])
    dprimary, dsent = empty(groups, "float64"), empty(d.size, "float64")
    _hierarchical_backward(items(groups), *saved.loads, d, dprimary, dsent)
    first = chances_backward(saved.first, dprimary.reshape(1, groups))
    return *first, *chances_backward(saved.second, dsent.reshape(groups, d.size // groups))


@kernel("i2 d2")
def _members(group_indices, member):
    """1 where a token is in a group."""
    groups = member.shape[1]
    for i in range(cuda.grid(1), member.shape[0] * groups, cuda.gridsize(1)):
        t, g = i // groups, i % groups
        found = 0
        for a in range(group_indices.shape[1]):
            if group_indices[t, a] == g:
                found = 1
        member[t, g] = found


@kernel("d1 d1 d1 d1")
def _hierarchical(primary, sent, tokens, both):
    for e in range(cuda.grid(1), len(sent), cuda.gridsize(1)):
        g = e // (len(sent) // len(primary))
        both[e] = primary[g] * (sent[e] / tokens[g])


@kernel("d1 d1 d1 d1 d1 d1")
def _hierarchical_backward(primary, sent, tokens, dboth, dprimary, dsent):
    """A thread for every group."""
    size = len(sent) // len(primary)
    for g in range(cuda.grid(1), len(primary), cuda.gridsize(1)):
        total = dboth.dtype.type(0)
        for e in range(g * size, (g + 1) * size):
            total += dboth[e] * (sent[e] / tokens[g])
            dsent[e] = dboth[e] * (primary[g] / tokens[g])
        dprimary[g] = total


IMPL = Impl(forward, backward)
