"""dispatch.encode: one dense matrix product."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS


class Saved(NamedTuple):
    mask: np.ndarray        # T E C
    dtype: np.dtype


def forward(mask, x):
    dims = OPS["dispatch.encode"].admit(mask, x)
    buffers = mask.reshape(dims.T, dims.E * dims.C).astype(x.dtype).T @ x
    return buffers.reshape(dims.E, dims.C, dims.D), Saved(mask, x.dtype)


def backward(saved, dbuffers):
    tokens, experts, places = saved.mask.shape
    mask = saved.mask.reshape(tokens, experts * places).astype(dbuffers.dtype)
    return (mask @ dbuffers.reshape(experts * places, dbuffers.shape[2])).astype(saved.dtype, copy=False)


IMPL = Impl(forward, backward)
