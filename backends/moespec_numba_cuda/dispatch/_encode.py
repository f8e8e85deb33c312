"""dispatch.encode: one dense product."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import convert, read
from moespec_numba_cuda.dispatch._dense import one_group
from moespec_numba_cuda.experts._products import nn, tn


def forward(mask, x):
    dims = admit("dispatch.encode", mask, x)
    places, tokens = dims.E * dims.C, read(x)
    taken = convert(read(mask), tokens.dtype).reshape(dims.T, places)
    buffers = tn(taken, tokens, one_group(dims.T)).reshape(dims.E, dims.C, dims.D)
    return convert(buffers, x.dtype), (taken, x.dtype)


def backward(saved, dbuffers):
    taken, dtype = saved
    d = read(dbuffers, taken.dtype).reshape(1, taken.shape[1], dbuffers.shape[2])
    return convert(nn(taken, d, one_group(len(taken))), dtype)


IMPL = Impl(forward, backward)
