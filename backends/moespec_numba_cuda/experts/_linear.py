"""experts.linear."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import common, like, read
from moespec_numba_cuda.experts._bias import add_bias, bias_gradient
from moespec_numba_cuda.experts._products import nn, nt, tn


def forward(rows, offsets, w, b=None):
    admit("experts.linear", rows, offsets, w, b)
    (x, m, bias), own = common(rows, w, b), read(offsets, "int64")
    out = nn(x, m, own)
    add_bias(out, bias, own)
    return like(rows, out), (rows, w, b, own)


def backward(saved, dout):
    rows, w, b, own = saved
    x, m, dy = common(rows, w, dout)
    return like(rows, nt(dy, m, own)), like(w, tn(x, dy, own)), like(b, bias_gradient(dy, b, own))


IMPL = Impl(forward, backward)
