"""dispatch.unmix."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy.dispatch._dense import Tokens, by_group, by_slot, groups_of
from moespec_cupy.experts._products import common, like, nn, nt, tn


class Saved(NamedTuple):
    rows: Any               # N D
    combine: Any            # T S
    groups: Tokens


def forward(rows, combine, group=None, *, groups=1):
    dims = admit("dispatch.unmix", rows, combine, group, groups=groups)
    saved, (slots, weights) = Saved(rows, combine, groups_of(group, dims.T, groups)), common(rows, combine)
    y = nn(saved.groups.sort(weights), by_group(slots, groups), saved.groups.own)
    return like(rows, saved.groups.unsort(y)), saved


def backward(saved, dy):
    rows, combine, groups = saved
    slots, weights, d = common(rows, combine, dy)
    weights, d, own = groups.sort(weights), groups.sort(d), groups.own
    dcombine = nt(d, by_group(slots, len(own.offsets) - 1), own)
    return like(rows, by_slot(tn(weights, d, own))), like(combine, groups.unsort(dcombine))


IMPL = Impl(forward, backward)
