"""experts.linear."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import read
from moespec_cupy.experts._products import common, like, nn, nt, sums, tn


class Saved(NamedTuple):
    rows: Any               # N D
    w: Any                  # E D F
    b: Any                  # E F
    offsets: Any            # E+1


def forward(rows, offsets, w, b=None):
    admit("experts.linear", rows, offsets, w, b)
    (x, m, bias), bounds = common(rows, w, b), read(offsets, "int64")
    return like(rows, nn(x, m, bounds, bias)), Saved(rows, w, b, bounds)


def backward(saved, dout):
    rows, w, b, offsets = saved
    x, m, bias, dy = common(rows, w, b, dout)
    return like(rows, nt(dy, m, offsets)), like(w, tn(x, dy, offsets)), like(b, sums(dy, offsets, bias))


IMPL = Impl(forward, backward)
