"""experts.linear."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy.experts._products import Groups, common, groups, like, nn, nt, sums, tn


class Saved(NamedTuple):
    rows: Any               # N D
    w: Any                  # E D F
    b: Any                  # E F
    own: Groups


def forward(rows, offsets, w, b=None):
    admit("experts.linear", rows, offsets, w, b)
    (x, m, bias), own = common(rows, w, b), groups(offsets)
    return like(rows, nn(x, m, own, bias)), Saved(rows, w, b, own)


def backward(saved, dout):
    rows, w, b, own = saved
    x, m, bias, dy = common(rows, w, b, dout)
    return like(rows, nt(dy, m, own)), like(w, tn(x, dy, own)), like(b, sums(dy, own, bias))


IMPL = Impl(forward, backward)
