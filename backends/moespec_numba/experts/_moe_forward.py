"""The forward kernels of experts.moe: one task takes a block of an expert's rows from the tokens to their outputs."""

from typing import NamedTuple

import numpy as np
from numba import prange

from moespec_numba._kernel import kernel
from moespec_numba._products import push
from moespec_numba._queue import take
from moespec_numba.experts._gated import gate


class Weights(NamedTuple):
    """The parameters of all experts, or their gradients; a bias that is not there has no experts."""

    gate: np.ndarray        # E D F
    up: np.ndarray          # E D F
    down: np.ndarray        # E F D
    b_gate: np.ndarray      # E F
    b_up: np.ndarray        # E F
    b_down: np.ndarray      # E D


class Rows(NamedTuple):
    """What every row keeps for backward."""

    token: np.ndarray       # N
    g: np.ndarray           # N F, gate pre-activations
    u: np.ndarray           # N F, up projections


@kernel(parallel=True)
def run(x, w, a, tasks, counter, own, out, buffers):
    """Fill own.g, own.u and `out` [N, D]; `buffers`: memory for the rows, the hidden layer and a scratch row of every thread."""
    rows, hidden, scratch = buffers
    for thread in prange(len(rows)):
        _work(x, w, a, tasks, counter, own, out, rows[thread], hidden[thread], scratch[thread])


@kernel(entry=False)
def _work(x, w, a, tasks, counter, own, out, rows, hidden, scratch):
    one = x.dtype.type(1)
    i = take(counter)
    while i < len(tasks):
        e, first, last = tasks[i]
        gather(x, own.token[first:last], 0, x.shape[1], rows)
        push(rows[:last - first], w.gate[e], own.g[first:last])
        push(rows[:last - first], w.up[e], own.u[first:last])
        _add(w.b_gate, e, own.g[first:last])
        _add(w.b_up, e, own.u[first:last])
        for n in range(first, last):
            gate(a, own.g[n], own.u[n], one, scratch, hidden[n - first])
        push(hidden[:last - first], w.down[e], out[first:last])
        _add(w.b_down, e, out[first:last])
        i = take(counter)


@kernel(entry=False)
def gather(x, token, start, stop, rows):
    """The columns start .. stop-1 of the tokens."""
    for n in range(len(token)):
        t = token[n]
        for d in range(start, stop):
            rows[n, d - start] = x[t, d]


@kernel(entry=False)
def _add(bias, e, out):
    if len(bias):
        for n in range(len(out)):
            for j in range(out.shape[1]):
                out[n, j] += bias[e, j]
