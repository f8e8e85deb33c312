"""The backward kernels of experts.moe.

An ordinary expert is one task, from its cotangents to the gradients of its weights.  An expert that has a large part of all rows
is split: its rows in blocks, then tiles of its weight gradients.  The routing weight multiplies the hidden layer instead of the
cotangent, and its own gradient is <dh, h>: the experts' outputs are not needed.
"""

from typing import NamedTuple

import numpy as np
from numba import prange

from moespec_numba._blas import gemm
from moespec_numba._kernel import kernel
from moespec_numba._products import pull
from moespec_numba._queue import take
from moespec_numba._vector import add_scaled, clear
from moespec_numba.experts._gated import gate, ungate
from moespec_numba.experts._moe_forward import gather

WHOLE, ROWS, DOWN, GATE, UP = range(5)      # kinds of tasks: an expert, a block of its rows, a tile of one of its gradients


class Given(NamedTuple):
    """What backward reads of every row beside `Rows`: the cotangent of its token comes with its weight."""

    x: np.ndarray           # T D
    dy: np.ndarray          # T D
    scale: np.ndarray       # N, the routing weight
    offsets: np.ndarray     # E+1


class Back(NamedTuple):
    """What it writes for every row; the hidden rows and their cotangents are kept for split experts only."""

    dx: np.ndarray          # N D
    inner: np.ndarray       # N, the gradient of the routing weight
    h: np.ndarray           # N F, times the routing weight
    dg: np.ndarray          # N F
    du: np.ndarray          # N F


@kernel(parallel=True)
def run(given, own, w, a, tasks, counter, step, back, dw, buffers):
    """Every task; `buffers`: rows, hidden rows h, dg and du, and scratch rows of every thread."""
    rows, hidden, scratch = buffers
    for thread in prange(len(rows)):
        _work(given, own, w, a, tasks, counter, step, back, dw, rows[thread], hidden[thread], scratch[thread])


@kernel(entry=False)
def _work(given, own, w, a, tasks, counter, step, back, dw, rows, hidden, scratch):
    i = take(counter)
    while i < len(tasks):
        kind, e, first, last = tasks[i]
        if kind == WHOLE:
            for start in range(first, last, step):
                _whole(given, own, w, a, e, start, min(start + step, last), start > first, back, dw, rows, hidden, scratch)
        elif kind == ROWS:
            _rows(given, own, w, a, e, first, last, back, rows, scratch)
        else:
            for start in range(given.offsets[e], given.offsets[e + 1], step):
                stop = min(start + step, given.offsets[e + 1])
                _tile(given, own, kind, e, first, last, start, stop, start > given.offsets[e], back, dw, rows)
        i = take(counter)


@kernel(entry=False)
def _rows(given, own, w, a, e, first, last, back, rows, scratch):
    """A block of rows of a split expert: everything but the gradients of its weights."""
    zero, one = rows.dtype.type(0), rows.dtype.type(1)
    h, dg, du = back.h[first:last], back.dg[first:last], back.du[first:last]
    _activate(given, own, a, first, last, rows, h, scratch)
    gemm(False, True, rows[:last - first], w.down[e], zero, dg)
    _deactivate(given, own, w, a, e, first, last, rows, dg, du, back.inner, scratch)
    gemm(False, True, dg, w.gate[e], zero, back.dx[first:last])
    gemm(False, True, du, w.up[e], one, back.dx[first:last])


@kernel(entry=False)
def _whole(given, own, w, a, e, first, last, more, back, dw, rows, hidden, scratch):
    """A block of rows of one expert, from the cotangents of their tokens to all gradients."""
    n = last - first
    h, dg, du = hidden[0, :n], hidden[1, :n], hidden[2, :n]
    _activate(given, own, a, first, last, rows, h, scratch)
    pull(rows[:n], w.down[e], h, False, dg, more, dw.down[e])
    _sum_scaled(rows[:n], given.scale[first:last], more, dw.b_down, e)
    _deactivate(given, own, w, a, e, first, last, rows, dg, du, back.inner, scratch)
    gather(given.x, own.token[first:last], 0, rows.shape[1], rows)
    pull(dg, w.gate[e], rows[:n], False, back.dx[first:last], more, dw.gate[e])
    pull(du, w.up[e], rows[:n], True, back.dx[first:last], more, dw.up[e])
    _sum(dg, more, dw.b_gate, e)
    _sum(du, more, dw.b_up, e)


@kernel(entry=False)
def _activate(given, own, a, first, last, rows, h, scratch):
    """The cotangents of the rows' tokens, and the hidden rows times their weights."""
    gather(given.dy, own.token[first:last], 0, rows.shape[1], rows)
    for n in range(first, last):
        gate(a, own.g[n], own.u[n], given.scale[n], scratch[0], h[n - first])


@kernel(entry=False)
def _deactivate(given, own, w, a, e, first, last, rows, dg, du, inner, scratch):
    """dg comes as the cotangent of h without the weight, which receives its own gradient."""
    for n in range(first, last):
        i = n - first
        inner[n] = ungate(a, own.g[n], own.u[n], given.scale[n], scratch[0], scratch[1], scratch[2], dg[i], du[i])
        if len(w.b_down):
            for d in range(rows.shape[1]):
                inner[n] += w.b_down[e, d] * rows[i, d]


@kernel(entry=False)
def _tile(given, own, kind, e, start, stop, first, last, more, back, dw, rows):
    """What a block of rows adds to rows start .. stop-1 of one gradient of a split expert; the first tile has the bias as well."""
    n, token, beta = last - first, own.token[first:last], rows.dtype.type(1 if more else 0)
    if kind == DOWN:
        gather(given.dy, token, 0, rows.shape[1], rows)
        gemm(True, False, back.h[first:last, start:stop], rows[:n], beta, dw.down[e, start:stop])
        if start == 0:
            _sum_scaled(rows[:n], given.scale[first:last], more, dw.b_down, e)
    else:
        d, into, bias = (back.dg, dw.gate, dw.b_gate) if kind == GATE else (back.du, dw.up, dw.b_up)
        gather(given.x, token, start, stop, rows)
        gemm(True, False, rows[:n, :stop - start], d[first:last], beta, into[e, start:stop])
        if start == 0:
            _sum(d[first:last], more, bias, e)


@kernel(entry=False)
def _sum(d, more, bias, e):
    """Add the rows up, in the gradient of a bias if there is one."""
    if len(bias):
        if not more:
            clear(bias[e])
        for n in range(len(d)):
            add_scaled(bias[e], d.dtype.type(1), d[n])


@kernel(entry=False)
def _sum_scaled(d, scale, more, bias, e):
    if len(bias):
        if not more:
            clear(bias[e])
        for n in range(len(d)):
            add_scaled(bias[e], scale[n], d[n])
