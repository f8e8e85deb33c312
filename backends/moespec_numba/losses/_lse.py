"""log(sum(exp(x))) of a row."""

import numpy as np

from moespec_numba._exp import exp_down
from moespec_numba._kernel import REORDER, kernel


@kernel(entry=False)
def lse_row(x):
    """-inf where every entry is; a NaN anywhere is the result."""
    top = x.dtype.type(-np.inf)
    for e in range(len(x)):
        top = x[e] if x[e] > top else top
    if abs(top) < np.inf:
        return np.log(_sum_exp(x, top)) + top
    for e in range(len(x)):
        top = x[e] if x[e] != x[e] else top
    return top


@kernel(fastmath=REORDER, entry=False)
def _sum_exp(x, top):
    total = x.dtype.type(0)
    for e in range(len(x)):
        total += exp_down(x[e] - top)
    return total
