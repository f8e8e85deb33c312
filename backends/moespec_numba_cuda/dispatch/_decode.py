"""dispatch.decode: one dense product."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import common, like
from moespec_numba_cuda.dispatch._dense import one_group
from moespec_numba_cuda.experts._products import nn, nt, tn


def forward(combine, buffers):
    dims = admit("dispatch.decode", combine, buffers)
    c, b = common(combine, buffers)
    y = nn(c.reshape(dims.T, dims.E * dims.C), b.reshape(1, dims.E * dims.C, dims.D), one_group(dims.T))
    return like(buffers, y), (combine, buffers)


def backward(saved, dy):
    combine, buffers = saved
    c, b, d = common(combine, buffers, dy)
    (tokens, experts, capacity), width = c.shape, b.shape[2]
    places, own = experts * capacity, one_group(tokens)
    dcombine = nt(d, b.reshape(1, places, width), own).reshape(*c.shape)
    dbuffers = tn(c.reshape(tokens, places), d, own).reshape(*b.shape)
    return like(combine, dcombine), like(buffers, dbuffers)


IMPL = Impl(forward, backward)
