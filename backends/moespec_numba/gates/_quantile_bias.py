"""gates.quantile_bias."""

import numpy as np
from numba import prange

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read
from moespec_numba.gates._order import choose, nth


def forward(scores, bias, *, k):
    dims = OPS["gates.quantile_bias"].admit(scores, bias, k=k)
    if dims.T == 0:
        return bias.copy(), None
    dtype = np.result_type(scores, bias)
    limits, updated = empty(dims.T, dtype), empty(dims.E, dtype)
    wide = read(scores, dtype)
    _limits(wide, read(bias, dtype), k, limits)
    _shares(wide, read(limits), k * dims.T // dims.E, updated)
    return updated.astype(bias.dtype, copy=False), None


@kernel
def _limits(scores, bias, k, limits):
    """Of every token the best biased score that was not selected."""
    biased, best, ids = np.empty(len(bias), scores.dtype), np.empty(k + 1, scores.dtype), np.empty(k + 1, np.int64)
    for t in range(len(scores)):
        for e in range(len(bias)):
            biased[e] = scores[t, e] + bias[e]
        choose(biased, ids, best)
        limits[t] = best[k]


@kernel(parallel=True)
def _shares(scores, limits, m, updated):
    """The bias at which an expert's share of the tokens is above its limit."""
    for e in prange(scores.shape[1]):
        column = np.empty(len(limits), scores.dtype)
        for t in range(len(limits)):
            column[t] = scores[t, e] - limits[t]
        updated[e] = -nth(column, m)


IMPL = Impl(forward)
