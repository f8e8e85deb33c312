"""losses.global_balance."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import read
from moespec_numba_cuda.losses._balance import coefficients, valid, weigh_means, weigh_means_backward
from moespec_numba_cuda.losses._mean import at_least_one, column_sums, masked


def forward(probs, counts, mask=None):
    dims = admit("losses.global_balance", probs, counts, mask)
    mask, counted = valid(mask, dims.T)
    load = read(counts, "float64")
    whole = at_least_one(column_sums(load.reshape(dims.E, 1), masked(None)))
    return weigh_means(probs, coefficients(load, whole, scale=dims.E), mask, counted)


IMPL = Impl(forward, weigh_means_backward)
