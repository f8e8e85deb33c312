"""log(sum(exp(x))) of a row."""

from __future__ import annotations

import numpy as np

from moespec_numba_cuda._device import device
from moespec_numba_cuda._math import exp, log


@device
def lse_row(x):
    """-inf where every entry is; a NaN anywhere, and +inf, reach the sum and are the result."""
    shift = x.dtype.type(-np.inf)
    for e in range(len(x)):
        if x[e] > shift:
            shift = x[e]
    if not -np.inf < shift < np.inf:
        shift = x.dtype.type(0)
    whole = x.dtype.type(0)
    for e in range(len(x)):
        whole += exp(x[e] - shift)
    return log(whole) + shift
