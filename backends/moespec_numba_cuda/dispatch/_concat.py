"""dispatch.concat."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import common, convert, empty, read
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel


def forward(a, b):
    dims = admit("dispatch.concat", a, b)
    x, z = common(a, b)
    y = empty((len(x), dims.P + dims.Q), x.dtype)
    _join(items(y.size), x, z, y)
    return convert(y, a.dtype), (dims.P, dims.Q, a.dtype, b.dtype)


def backward(saved, dy):
    p, q, *dtypes = saved
    d = read(dy)
    da, db = empty((len(d), p), d.dtype), empty((len(d), q), d.dtype)
    _part(items(d.size), d, da, db)
    return convert(da, dtypes[0]), convert(db, dtypes[1])


@kernel("T2 T2 T2")
def _join(a, b, y):
    p, width = a.shape[1], y.shape[1]
    for i in range(cuda.grid(1), y.shape[0] * width, cuda.gridsize(1)):
        t, d = i // width, i % width
        y[t, d] = a[t, d] if d < p else b[t, d - p]


@kernel("T2 T2 T2")
def _part(dy, da, db):
    p, width = da.shape[1], dy.shape[1]
    for i in range(cuda.grid(1), dy.shape[0] * width, cuda.gridsize(1)):
        t, d = i // width, i % width
        if d < p:
            da[t, d] = dy[t, d]
        else:
            db[t, d - p] = dy[t, d]


IMPL = Impl(forward, backward)
