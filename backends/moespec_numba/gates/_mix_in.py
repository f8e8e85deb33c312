"""gates.mix_in."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read, zeros


class Saved(NamedTuple):
    previous: np.ndarray    # T D
    scale: np.ndarray       # D
    dtypes: tuple           # of h, previous, scale


def forward(h, previous, scale):
    OPS["gates.mix_in"].admit(h, previous, scale)
    dtype = np.result_type(h, previous, scale)
    saved, mixed = Saved(read(previous, dtype), read(scale, dtype), (h.dtype, previous.dtype, scale.dtype)), empty(h.shape, h.dtype)
    _mix(read(h, dtype), *saved[:2], mixed)
    return mixed, saved


def backward(saved, dmixed):
    d, dtypes = read(dmixed, saved.scale.dtype), saved.dtypes
    dprevious, dscale = empty(d.shape, dtypes[1]), zeros(saved.scale.shape, d.dtype)
    _backward(*saved[:2], d, dprevious, dscale)
    return dmixed.astype(dtypes[0]), dprevious, dscale.astype(dtypes[2], copy=False)


@kernel
def _mix(h, previous, scale, mixed):
    for t in range(len(h)):
        for i in range(len(scale)):
            mixed[t, i] = h[t, i] + previous[t, i] * scale[i]


@kernel
def _backward(previous, scale, dmixed, dprevious, dscale):
    for t in range(len(dmixed)):
        for i in range(len(scale)):
            dprevious[t, i] = scale[i] * dmixed[t, i]
            dscale[i] += previous[t, i] * dmixed[t, i]


IMPL = Impl(forward, backward)
