"""experts.grouped_matmul."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import common, like, read
from moespec_numba_cuda.experts._products import nn, nt, tn


def forward(rows, w, offsets):
    admit("experts.grouped_matmul", rows, w, offsets)
    x, m = common(rows, w)
    return like(rows, nn(x, m, read(offsets, "int64"))), (rows, w, offsets)


def backward(saved, dout):
    rows, w, offsets = saved
    (x, m, dy), own = common(rows, w, dout), read(offsets, "int64")
    return like(rows, nt(dy, m, own)), like(w, tn(x, dy, own))


IMPL = Impl(forward, backward)
