"""dispatch.encode: one dense matrix product."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import read
from moespec_cupy.dispatch._dense import groups_of
from moespec_cupy.experts._products import Groups, nn, tn


class Saved(NamedTuple):
    mask: Any               # T (E C)   in the dtype of x
    own: Groups


def forward(mask, x):
    dims = admit("dispatch.encode", mask, x)
    saved = Saved(read(mask.reshape(dims.T, dims.E * dims.C), x.dtype), groups_of(None, dims.T).own)
    return tn(saved.mask, read(x), saved.own).reshape(dims.E, dims.C, dims.D), saved


def backward(saved, dbuffers):
    return nn(saved.mask, read(dbuffers).reshape(1, saved.mask.shape[1], dbuffers.shape[2]), saved.own)


IMPL = Impl(forward, backward)
