"""gates.pair_sums."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, empty, items, read, rows

KERNELS = Kernels(__file__, "_pair_sums.cu")


class Saved(NamedTuple):
    sizes: tuple            # T n m
    dtype: Any              # of the second half


def forward(first, second):
    admit("gates.pair_sums", first, second)
    (tokens, n), m = first.shape, second.shape[1]
    logits = empty((tokens, n * m), first.dtype)
    KERNELS("pair_sums", items(logits.size), read(first), read(second), logits, logits.size, n, m)
    return logits, Saved((tokens, n, m), second.dtype)


def backward(saved, dlogits):
    (tokens, n, m), d = saved.sizes, read(dlogits)
    dfirst, dsecond = empty((tokens, n), d.dtype), empty((tokens, m), saved.dtype)
    KERNELS("pair_sums_to_first", rows(dfirst.size), d, dfirst, dfirst.size, m)
    KERNELS("pair_sums_to_second", items(dsecond.size), d, dsecond, dsecond.size, n, m)
    return dfirst, dsecond


IMPL = Impl(forward, backward)
