"""dispatch.mix."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy import _launcher
from moespec_cupy._admit import admit
from moespec_cupy.dispatch._dense import Tokens, by_group, by_slot, groups_of
from moespec_cupy.experts._products import common, like, nn, nt, tn


class Saved(NamedTuple):
    x: Any                  # T D
    dispatch: Any           # T S
    groups: Tokens


def forward(x, dispatch, group=None, *, experts, groups=1):
    dims = admit("dispatch.mix", x, dispatch, group, experts=experts, groups=groups)
    saved = Saved(x, dispatch, groups_of(group, dims.T, groups))
    tokens, weights = map(saved.groups.sort, common(x, dispatch))
    offsets = _launcher.get().xp.arange(experts + 1, dtype="int64") * (dims.S // experts * groups)
    return (like(x, by_slot(tn(weights, tokens, saved.groups.own))), offsets), saved


def backward(saved, drows):
    x, dispatch, groups = saved
    tokens, weights, d = common(x, dispatch, drows)
    slots, own = by_group(d, len(groups.own.offsets) - 1), groups.own
    dx = nn(groups.sort(weights), slots, own)
    return like(x, groups.unsort(dx)), like(dispatch, groups.unsort(nt(groups.sort(tokens), slots, own)))


IMPL = Impl(forward, backward)
