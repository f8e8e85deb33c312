"""dispatch.mix: products of the tokens of a group."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import common, like
from moespec_numba_cuda.dispatch._dense import every, groups_of, swapped
from moespec_numba_cuda.experts._products import nn, nt, tn


def forward(x, dispatch, group=None, *, experts, groups=1):
    dims = admit("dispatch.mix", x, dispatch, group, experts=experts, groups=groups)
    own = groups_of(group, dims.T, groups)
    tokens, weights = map(own.sort, common(x, dispatch))
    slots = swapped(tn(weights, tokens, own.offsets)).reshape(dims.S * groups, dims.D)          # from G S D
    return (like(x, slots), every(dims.S // experts * groups, experts + 1)), (x, dispatch, own)


def backward(saved, drows):
    x, dispatch, own = saved
    tokens, weights, d = common(x, dispatch, drows)
    groups = len(own.offsets) - 1
    slots = swapped(d.reshape(len(d) // groups, groups, d.shape[1]))                            # G S D
    dx, ddispatch = nn(own.sort(weights), slots, own.offsets), nt(own.sort(tokens), slots, own.offsets)
    return like(x, own.unsort(dx)), like(dispatch, own.unsort(ddispatch))


IMPL = Impl(forward, backward)
