"""experts.grouped_matmul."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import read
from moespec_cupy.experts._products import common, like, nn, nt, tn


class Saved(NamedTuple):
    rows: Any               # N D
    w: Any                  # E D F
    offsets: Any            # E+1


def forward(rows, w, offsets):
    admit("experts.grouped_matmul", rows, w, offsets)
    (x, m), bounds = common(rows, w), read(offsets, "int64")
    return like(rows, nn(x, m, bounds)), Saved(rows, w, bounds)


def backward(saved, dout):
    rows, w, offsets = saved
    x, m, dy = common(rows, w, dout)
    return like(rows, nt(dy, m, offsets)), like(w, tn(x, dy, offsets))


IMPL = Impl(forward, backward)
