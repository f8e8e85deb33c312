"""gates.pair_sums."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import common, convert, empty, like, read
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel


def forward(first, second):
    dims = admit("gates.pair_sums", first, second)
    a, b = common(first, second)
    logits = empty((dims.T, dims.n * dims.m), a.dtype)
    _add(items(logits.size), a, b, logits)
    return like(first, logits), ((dims.n, dims.m), first.dtype, second.dtype)


def backward(saved, dlogits):
    (n, m), *dtypes = saved
    d = read(dlogits)
    dfirst, dsecond = empty((len(d), n), d.dtype), empty((len(d), m), d.dtype)
    _to_first(items(dfirst.size), d, dfirst)
    _to_second(items(dsecond.size), d, dsecond)
    return convert(dfirst, dtypes[0]), convert(dsecond, dtypes[1])


@kernel("T2 T2 T2")
def _add(first, second, logits):
    width, m = logits.shape[1], second.shape[1]
    for i in range(cuda.grid(1), len(logits) * width, cuda.gridsize(1)):
        t, e = i // width, i % width
        logits[t, e] = first[t, e // m] + second[t, e % m]


@kernel("T2 T2")
def _to_first(dlogits, dfirst):
    n = dfirst.shape[1]
    for i in range(cuda.grid(1), len(dfirst) * n, cuda.gridsize(1)):
        t, a, m = i // n, i % n, dlogits.shape[1] // n
        total = dlogits.dtype.type(0)
        for b in range(m):
            total += dlogits[t, a * m + b]
        dfirst[t, a] = total


@kernel("T2 T2")
def _to_second(dlogits, dsecond):
    m = dsecond.shape[1]
    for i in range(cuda.grid(1), len(dsecond) * m, cuda.gridsize(1)):
        t, b = i // m, i % m
        total = dlogits.dtype.type(0)
        for e in range(b, dlogits.shape[1], m):
            total += dlogits[t, e]
        dsecond[t, b] = total


IMPL = Impl(forward, backward)
