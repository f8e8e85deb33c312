"""experts.grouped_matmul."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, read
from moespec_numba._products import grouped, grouped_backward
from moespec_numba.experts._types import common, like


class Saved(NamedTuple):
    rows: np.ndarray        # N D
    w: np.ndarray           # E D F
    offsets: np.ndarray     # E+1


def forward(rows, w, offsets):
    OPS["experts.grouped_matmul"].admit(rows, w, offsets)
    (x, m), bounds = common(rows, w), read(offsets, "int64")
    return like(rows, grouped(x, m, bounds)), Saved(rows, w, bounds)


def backward(saved, dout):
    rows, w, offsets = saved
    x, m, dy = common(rows, w, dout)
    drows, dw = grouped_backward(dy, m, x, offsets)
    return like(rows, drows), like(w, dw)


IMPL = Impl(forward, backward)
