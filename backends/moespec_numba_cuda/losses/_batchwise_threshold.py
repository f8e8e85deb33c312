"""losses.batchwise_threshold."""

from __future__ import annotations

from typing import Any, NamedTuple

from moespec.numerics import acc
from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import common, empty, flat, full, like
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda.losses._columns import descending
from moespec_numba_cuda.losses._mean import column_sums, cotangent, masked, mean


class Saved(NamedTuple):
    thresholds: Any         # E
    surplus: Any            # E   how many tokens too many a threshold lets through


def forward(probs, thresholds, *, k):
    dims = admit("losses.batchwise_threshold", probs, thresholds, k=k)
    x, limits = common(probs, thresholds)
    terms, difference = empty(x.shape, x.dtype), empty(x.shape, x.dtype)
    _compare(items(x.size), x, limits, descending(x), k * dims.T // dims.E, terms, difference)
    loss = mean(flat(terms), masked(None), full(1, 1, "float64"), acc(probs))
    return loss, Saved(thresholds, column_sums(difference, masked(None)))


def backward(saved, dloss):
    dthresholds = empty(saved.surplus.shape, acc(saved.thresholds))
    _to_thresholds(items(len(dthresholds)), saved.surplus, cotangent(dloss, dthresholds.dtype), dthresholds)
    return like(saved.thresholds, dthresholds)


@kernel("T2 T1 i1 i T2 T2")
def _compare(probs, limits, order, most, terms, difference):
    """The mask of the threshold less that of the batch, which has the first `most` of every column."""
    tokens, experts = probs.shape
    for at in range(cuda.grid(1), len(order), cuda.gridsize(1)):
        t, e = order[at] // experts, order[at] % experts
        above, chosen = probs[t, e] > limits[e], at % tokens < most
        d = probs.dtype.type((1 if above else 0) - (1 if chosen else 0))
        difference[t, e] = d
        terms[t, e] = d * (probs[t, e] - limits[e])


@kernel("d1 T1 T1")
def _to_thresholds(surplus, dloss, dthresholds):
    for e in range(cuda.grid(1), len(surplus), cuda.gridsize(1)):
        dthresholds[e] = -surplus[e] * dloss[0]


IMPL = Impl(forward, backward)
