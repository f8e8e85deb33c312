"""gates.scale_experts."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read, zeros


class Saved(NamedTuple):
    weights: np.ndarray     # T K
    indices: np.ndarray     # T K
    scale: np.ndarray       # E
    dtypes: tuple


def forward(weights, indices, scale):
    OPS["gates.scale_experts"].admit(weights, indices, scale)
    dtype = np.result_type(weights, scale)
    saved = Saved(read(weights, dtype), read(indices, "int64"), read(scale, dtype), (weights.dtype, scale.dtype))
    scaled = empty(weights.shape, weights.dtype)
    _scale(*saved[:3], scaled)
    return scaled, saved


def backward(saved, dscaled):
    d = read(dscaled, saved.weights.dtype)
    dweights, dscale = empty(d.shape, saved.dtypes[0]), zeros(saved.scale.shape, d.dtype)
    _scale(d, saved.indices, saved.scale, dweights)
    _sum(d, *saved[:2], dscale)
    return dweights, dscale.astype(saved.dtypes[1], copy=False)


@kernel
def _scale(weights, ids, scale, scaled):
    for t in range(len(ids)):
        for j in range(ids.shape[1]):
            scaled[t, j] = weights[t, j] * scale[ids[t, j]] if ids[t, j] >= 0 else 0


@kernel
def _sum(d, weights, ids, dscale):
    for t in range(len(ids)):
        for j in range(ids.shape[1]):
            if ids[t, j] >= 0:
                dscale[ids[t, j]] += d[t, j] * weights[t, j]


IMPL = Impl(forward, backward)
