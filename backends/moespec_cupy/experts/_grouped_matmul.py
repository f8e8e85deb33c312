"""experts.grouped_matmul."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy.experts._products import Groups, common, groups, like, nn, nt, tn


class Saved(NamedTuple):
    rows: Any               # N D
    w: Any                  # E D F
    own: Groups


def forward(rows, w, offsets):
    admit("experts.grouped_matmul", rows, w, offsets)
    (x, m), own = common(rows, w), groups(offsets)
    return like(rows, nn(x, m, own)), Saved(rows, w, own)


def backward(saved, dout):
    rows, w, own = saved
    x, m, dy = common(rows, w, dout)
    return like(rows, nt(dy, m, own)), like(w, tn(x, dy, own))


IMPL = Impl(forward, backward)
