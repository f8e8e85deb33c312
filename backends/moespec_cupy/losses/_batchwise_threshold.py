"""losses.batchwise_threshold."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, accumulation, empty, items, read
from moespec_cupy.dispatch._column_sums import column_sums
from moespec_cupy.dispatch._counting_sort import resort
from moespec_cupy.dispatch._serving import descending
from moespec_cupy.experts._products import common
from moespec_cupy.losses._mean import total

KERNELS = Kernels(__file__, "_batchwise_threshold.cu")


class Saved(NamedTuple):
    sums: Any               # E   how many tokens too many every threshold lets through
    dtype: Any


def forward(probs, thresholds, *, k):
    dims, (x, limit) = admit("losses.batchwise_threshold", probs, thresholds, k=k), common(probs, thresholds)
    acc, column = accumulation(x.dtype), empty(x.size, "int64")
    KERNELS("column_of", items(x.size), column, x.size, dims.E)
    order = resort(column, descending(probs), dims.E)
    difference, terms = empty(x.shape, acc), empty(x.shape, acc)
    KERNELS("threshold_terms", items(x.size), x, limit, order, difference, terms, *x.shape, k * dims.T // dims.E)
    return total(terms).astype(accumulation(probs.dtype), copy=False), Saved(column_sums(difference, acc), thresholds.dtype)


def backward(saved, dloss):
    dthresholds = empty(saved.sums.shape, saved.sums.dtype)
    KERNELS("thresholds_backward", items(dthresholds.size), saved.sums, read(dloss, saved.sums.dtype), dthresholds, dthresholds.size)
    return dthresholds.astype(saved.dtype, copy=False)


IMPL = Impl(forward, backward)
