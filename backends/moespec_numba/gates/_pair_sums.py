"""gates.pair_sums."""

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read, zeros


def forward(first, second):
    dims = OPS["gates.pair_sums"].admit(first, second)
    dtype = np.result_type(first, second)
    sums = empty((dims.T, dims.n, dims.m), first.dtype)
    _add(read(first, dtype), read(second, dtype), sums)
    return sums.reshape(dims.T, dims.n * dims.m), (sums.shape, first.dtype, second.dtype)


def backward(saved, dlogits):
    shape, *dtypes = saved
    dfirst, dsecond = zeros(shape[:2], dlogits.dtype), zeros(shape[::2], dlogits.dtype)
    _split(read(dlogits.reshape(shape)), dfirst, dsecond)
    return dfirst.astype(dtypes[0], copy=False), dsecond.astype(dtypes[1], copy=False)


@kernel
def _add(first, second, sums):
    for t in range(len(first)):
        for a in range(first.shape[1]):
            for b in range(second.shape[1]):
                sums[t, a, b] = first[t, a] + second[t, b]


@kernel
def _split(d, dfirst, dsecond):
    for t in range(len(d)):
        for a in range(d.shape[1]):
            for b in range(d.shape[2]):
                dfirst[t, a] += d[t, a, b]
                dsecond[t, b] += d[t, a, b]


IMPL = Impl(forward, backward)
