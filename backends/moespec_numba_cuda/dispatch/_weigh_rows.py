"""dispatch.weigh_rows."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import common, empty, flat, like, read
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda._rows import inner
from moespec_numba_cuda.dispatch._counting_sort import counting_sort


def forward(rows, weights, row):
    admit("dispatch.weigh_rows", rows, weights, row)
    x, w = common(rows, weights)
    found = counting_sort(row, len(x))
    return like(rows, _weighed(x, w, found)), (rows, weights, row, found)


def backward(saved, dout):
    rows, weights, row, found = saved
    x, w, d = common(rows, weights, dout)
    dweights = empty(w.shape, w.dtype)
    _to_weights(items(w.size), x, d, flat(read(row, "int64")), flat(dweights))
    return like(rows, _weighed(d, w, found)), like(weights, dweights)


def _weighed(x, weights, found):
    """Every row times the sum of the weights of its assignments; 0 where there is none."""
    out = empty(x.shape, x.dtype)
    _weigh(items(out.size), x, flat(weights), found.order, found.offsets, out)
    return out


@kernel("T2 T1 i1 i1 T2")
def _weigh(x, weights, order, offsets, out):
    width = x.shape[1]
    for i in range(cuda.grid(1), x.shape[0] * width, cuda.gridsize(1)):
        n, d = i // width, i % width
        factor = x.dtype.type(0)
        for at in range(offsets[n], offsets[n + 1]):
            factor += weights[order[at]]
        out[n, d] = factor * x[n, d] if offsets[n + 1] > offsets[n] else 0


@kernel("T2 T2 i1 T1")
def _to_weights(x, d, row, dweights):
    for i in range(cuda.grid(1), len(row), cuda.gridsize(1)):
        dweights[i] = inner(x[row[i]], d[row[i]]) if 0 <= row[i] < x.shape[0] else 0


IMPL = Impl(forward, backward)
