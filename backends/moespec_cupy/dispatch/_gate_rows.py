"""dispatch.gate_rows."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, empty, items, read, rows

KERNELS = Kernels(__file__, "_tokens.cu")


class Saved(NamedTuple):
    x: Any                  # T D
    gate: Any               # T 1


def forward(x, gate):
    admit("dispatch.gate_rows", x, gate)
    saved = Saved(read(x), read(gate))
    return _gated(*saved), saved


def backward(saved, dy):
    (x, gate), dy, dgate = saved, read(dy), empty(saved.gate.shape, saved.gate.dtype)
    KERNELS("inner_rows", rows(len(x)), x, dy, None, dgate, *x.shape, len(x))
    return _gated(dy, gate), dgate


def _gated(x, gate):
    y = empty(x.shape, x.dtype)
    KERNELS("gate_rows", items(x.size), x, gate, y, x.size, x.shape[1])
    return y


IMPL = Impl(forward, backward)
