"""gates.select."""

from __future__ import annotations

import numpy as np

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import common, convert, empty, read
from moespec_numba_cuda._device import cuda, device
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda.gates._order import above, choose


def forward(scores, bias=None, indices=None, *, k=None, groups=1, keep=1, reduce="top2sum", base="biased", fill=-np.inf):
    dims = admit("gates.select", scores, bias, indices, k=k, groups=groups, keep=keep, reduce=reduce, base=base, fill=fill)
    if indices is not None:
        return convert(read(indices), "int64"), None
    s, b = common(scores, bias)
    b = empty(0, s.dtype) if b is None else b
    ids, kept = empty((dims.T, k), "int64"), empty((dims.T, keep), "int64")
    biased, judged, best = (empty((dims.T, n), s.dtype) for n in (dims.E, groups, max(k, keep)))
    _select(items(dims.T), s, b, reduce == "top2sum", base == "raw", fill, biased, judged, best, kept, ids)
    return ids, None


@kernel("T2 T1 b b T T2 T2 T2 i2 i2")
def _select(scores, bias, two, raw, fill, biased, judged, best, kept, ids):
    for t in range(cuda.grid(1), len(scores), cuda.gridsize(1)):
        for e in range(scores.shape[1]):
            biased[t, e] = scores[t, e] + bias[e] if len(bias) > 0 else scores[t, e]
        if kept.shape[1] < judged.shape[1]:
            judge(scores[t] if raw else biased[t], two, judged[t])
            choose(judged[t], kept[t], best[t])
            leave_out(biased[t], kept[t], judged.shape[1], fill)
        choose(biased[t], ids[t], best[t])


@device
def judge(scores, two, judged):
    """The sum of the two largest scores of every group, or the largest."""
    size = len(scores) // len(judged)
    for g in range(len(judged)):
        first, second = scores[g * size], scores[g * size + 1] if two else scores.dtype.type(0)
        if two and above(second, first):
            first, second = second, first
        for e in range(g * size + (2 if two else 1), (g + 1) * size):
            if above(scores[e], first):
                second = first
                first = scores[e]
            elif above(scores[e], second):
                second = scores[e]
        judged[g] = first + second if two else first


@device
def leave_out(biased, kept, groups, fill):
    """Every expert of a group that is not kept gets `fill`."""
    size = len(biased) // groups
    for g in range(groups):
        out = True
        for i in range(len(kept)):
            if kept[i] == g:
                out = False
        for e in range(g * size, (g + 1) * size if out else g * size):
            biased[e] = fill


IMPL = Impl(forward)
