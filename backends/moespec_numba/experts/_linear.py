"""experts.linear."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, read
from moespec_numba._products import grouped, grouped_backward
from moespec_numba.experts._bias import add_bias, bias_gradient
from moespec_numba.experts._types import common, like


class Saved(NamedTuple):
    rows: np.ndarray            # N D
    w: np.ndarray               # E D F
    b: np.ndarray | None        # E F
    offsets: np.ndarray         # E+1


def forward(rows, offsets, w, b=None):
    OPS["experts.linear"].admit(rows, offsets, w, b)
    (x, m, bias), bounds = common(rows, w, b), read(offsets, "int64")
    out = grouped(x, m, bounds)
    add_bias(out, bias, bounds)
    return like(rows, out), Saved(rows, w, b, bounds)


def backward(saved, dout):
    rows, w, b, offsets = saved
    x, m, dy = common(rows, w, dout)
    drows, dw = grouped_backward(dy, m, x, offsets)
    return like(rows, drows), like(w, dw), like(b, bias_gradient(dy, b, offsets))


IMPL = Impl(forward, backward)
