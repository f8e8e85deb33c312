"""dispatch.decode: one dense matrix product."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS


class Saved(NamedTuple):
    combine: np.ndarray     # T E C
    buffers: np.ndarray     # E C D


def forward(combine, buffers):
    dims = OPS["dispatch.decode"].admit(combine, buffers)
    places = dims.E * dims.C
    y = combine.reshape(dims.T, places) @ buffers.reshape(places, dims.D)
    return y.astype(buffers.dtype, copy=False), Saved(combine, buffers)


def backward(saved, dy):
    (tokens, experts, capacity), width = saved.combine.shape, saved.buffers.shape[2]
    places = experts * capacity
    dcombine = dy @ saved.buffers.reshape(places, width).T
    dbuffers = saved.combine.reshape(tokens, places).T @ dy
    return (dcombine.reshape(saved.combine.shape).astype(saved.combine.dtype, copy=False),
            dbuffers.reshape(saved.buffers.shape).astype(saved.buffers.dtype, copy=False))


IMPL = Impl(forward, backward)
