"""dispatch.decode: one dense matrix product."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy.dispatch._dense import groups_of
from moespec_cupy.experts._products import Groups, common, like, nn, nt, tn


class Saved(NamedTuple):
    combine: Any            # T E C
    buffers: Any            # E C D
    own: Groups


def forward(combine, buffers):
    dims = admit("dispatch.decode", combine, buffers)
    saved, places = Saved(combine, buffers, groups_of(None, dims.T).own), dims.E * dims.C
    weights, slots = common(combine.reshape(dims.T, places), buffers.reshape(1, places, dims.D))
    return like(buffers, nn(weights, slots, saved.own)), saved


def backward(saved, dy):
    combine, buffers, own = saved
    places = buffers.shape[0] * buffers.shape[1]
    weights, slots, d = common(combine.reshape(len(dy), places), buffers.reshape(1, places, buffers.shape[2]), dy)
    dcombine, dbuffers = nt(d, slots, own), tn(weights, d, own)
    return like(combine, dcombine).reshape(combine.shape), like(buffers, dbuffers).reshape(buffers.shape)


IMPL = Impl(forward, backward)
