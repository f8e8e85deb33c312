"""gates.linear, and the products of the other gates: those of one expert."""

from __future__ import annotations

import numpy as np

from moespec.numerics import acc
from moespec.op import wider
from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import common, convert, empty, like, read
from moespec_numba_cuda._columns import sum_columns
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import blocks, items, kernel
from moespec_numba_cuda.experts._products import nn, nt, tn


def forward(x, w, b=None, *, dtype="float32"):
    admit("gates.linear", x, w, b, dtype=dtype)
    out = wider(x.dtype, dtype)
    wide = np.result_type(acc(out), *(acc(a) for a in (x, w, b) if a is not None))
    logits = times(read(x, wide), read(w, wide))
    if b is not None:
        _add_row(items(logits.size), logits, read(b, wide))
    return convert(logits, out), (x, w, b)


def backward(saved, dlogits):
    x, w, b = saved
    a, m, d = common(x, w, dlogits)
    return like(x, through_left(d, m)), like(w, through_right(a, d)), None if b is None else like(b, sum_columns(d))


def times(x, w):
    """[T, E]: x w, of one dtype."""
    return nn(x, w.reshape(1, *w.shape), _whole(len(x)))


def through_left(d, w):
    """[T, D]: d w^T."""
    return nt(d, w.reshape(1, *w.shape), _whole(len(d)))


def through_right(x, d):
    """[D, E]: x^T d."""
    return tn(x, d, _whole(len(x))).reshape(x.shape[1], d.shape[1])


def _whole(rows):
    """All rows as those of one expert."""
    offsets = empty(2, "int64")
    _from_zero(blocks(1, 1), rows, offsets)
    return offsets


@kernel("i i1")
def _from_zero(rows, offsets):
    offsets[0] = 0
    offsets[1] = rows


@kernel("T2 T1")
def _add_row(x, b):
    rows, width = x.shape
    for i in range(cuda.grid(1), rows * width, cuda.gridsize(1)):
        x[i // width, i % width] += b[i % width]


IMPL = Impl(forward, backward)
