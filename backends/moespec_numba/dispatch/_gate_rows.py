"""dispatch.gate_rows."""

from typing import NamedTuple

import numpy as np
from numba import prange

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read
from moespec_numba._vector import inner, scale


class Saved(NamedTuple):
    x: np.ndarray           # T D
    gate: np.ndarray        # T 1


def forward(x, gate):
    OPS["dispatch.gate_rows"].admit(x, gate)
    saved, y = Saved(read(x), read(gate)), empty(x.shape, x.dtype)
    _gate(saved.x, saved.gate, y)
    return y, saved


def backward(saved, dy):
    d, dx, dgate = read(dy), empty(saved.x.shape, saved.x.dtype), empty(saved.gate.shape, saved.gate.dtype)
    _gate(d, saved.gate, dx)
    _inner(saved.x, d, dgate)
    return dx, dgate


@kernel(parallel=True)
def _gate(x, gate, y):
    for t in prange(len(x)):
        scale(y[t], gate[t, 0], x[t])


@kernel
def _inner(x, d, dgate):
    for t in range(len(x)):
        dgate[t, 0] = inner(x[t], d[t])


IMPL = Impl(forward, backward)
