"""gates.soft."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, accumulation, empty, read, rows, zeros
from moespec_cupy.gates._by_group import Groups, by_group
from moespec_cupy.gates._softmax import softmax_rows

KERNELS = Kernels(__file__, "_soft.cu")
TILE = 32                     # slots of a block


class Saved(NamedTuple):
    logits: Any             # T S
    groups: Groups


def forward(logits, group=None):
    dims, x = admit("gates.soft", logits, group), read(logits)
    dispatch, groups = zeros(x.shape, x.dtype), by_group(group, dims.T)
    KERNELS("over_tokens", groups.blocks(-(-dims.S // TILE), TILE * dims.T), x, *groups, dispatch, dims.T, dims.S)
    return (dispatch, softmax_rows(x)), Saved(x, groups)


def backward(saved, ddispatch, dcombine):
    x, groups = saved
    dlogits, through = zeros(x.shape, x.dtype), empty(x.shape, accumulation(x.dtype))
    KERNELS("over_slots_backward", rows(len(x)), x, read(dcombine), through, *x.shape)
    KERNELS("over_tokens_backward", groups.blocks(-(-x.shape[1] // TILE), TILE * len(x)), x, read(ddispatch), through, *groups, dlogits, *x.shape)
    return dlogits


IMPL = Impl(forward, backward)
