"""dispatch.unmix: products of the tokens of a group."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import common, like
from moespec_numba_cuda.dispatch._dense import groups_of, swapped
from moespec_numba_cuda.experts._products import nn, nt, tn


def forward(rows, combine, group=None, *, groups=1):
    dims = admit("dispatch.unmix", rows, combine, group, groups=groups)
    own = groups_of(group, dims.T, groups)
    x, weights = common(rows, combine)
    y = nn(own.sort(weights), _by_group(x, groups), own.offsets)
    return like(rows, own.unsort(y)), (rows, combine, own)


def backward(saved, dy):
    rows, combine, own = saved
    x, weights, d = common(rows, combine, dy)
    slots, d, groups = _by_group(x, len(own.offsets) - 1), own.sort(d), len(own.offsets) - 1
    dslots = swapped(tn(own.sort(weights), d, own.offsets))                                     # S G D
    return like(rows, dslots.reshape(dslots.shape[0] * groups, dslots.shape[2])), like(combine, own.unsort(nt(d, slots, own.offsets)))


def _by_group(rows, groups):
    """[G, S, D] of rows s * groups + g."""
    return swapped(rows.reshape(len(rows) // groups, groups, rows.shape[1]))


IMPL = Impl(forward, backward)
