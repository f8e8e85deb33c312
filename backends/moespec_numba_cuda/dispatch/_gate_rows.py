"""dispatch.gate_rows."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import common, empty, like
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda._rows import inner


def forward(x, gate):
    admit("dispatch.gate_rows", x, gate)
    return like(x, _gated(*common(x, gate))), (x, gate)


def backward(saved, dy):
    x, gate, d = common(*saved, dy)
    dgate = empty(gate.shape, gate.dtype)
    _inner(items(len(x)), x, d, dgate)
    return like(saved[0], _gated(d, gate)), like(saved[1], dgate)


def _gated(x, gate):
    y = empty(x.shape, x.dtype)
    _gate(items(y.size), x, gate, y)
    return y


@kernel("T2 T2 T2")
def _gate(x, gate, y):
    width = x.shape[1]
    for i in range(cuda.grid(1), x.shape[0] * width, cuda.gridsize(1)):
        y[i // width, i % width] = gate[i // width, 0] * x[i // width, i % width]


@kernel("T2 T2 T2")
def _inner(x, d, dgate):
    for t in range(cuda.grid(1), x.shape[0], cuda.gridsize(1)):
        dgate[t, 0] = inner(x[t], d[t])


IMPL = Impl(forward, backward)
