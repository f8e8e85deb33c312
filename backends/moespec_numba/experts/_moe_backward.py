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
from moespec_numba.experts._gated import gate, ungate
from moespec_numba.experts._moe_forward import gather
from moespec_numba.experts._products import pull
from moespec_numba.experts._queue import take

WHOLE, BLOCK_OF_ROWS = range(2)         # kinds of tasks
DOWN, GATE, UP = range(3)               # which gradient a tile belongs to


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
def run(given, own, w, a, tasks, tiles, counters, step, back, dw, buffers):
    """Every task, then every tile; `buffers`: rows, hidden rows h, dg and du, and scratch rows of every thread."""
    rows, hidden, scratch = buffers
    for thread in prange(len(rows)):
        _work(given, own, w, a, tasks, counters[:1], step, back, dw, rows[thread], hidden[thread], scratch[thread])
    if len(tiles):
        for thread in prange(len(rows)):
            _tiles(given, own, tiles, counters[1:], step, back, dw, rows[thread])


@kernel(parallel=True)
def to_tokens(back, place, dx, dweights):
    """Every token adds up its rows, in ascending order of choice."""
    for t in prange(len(dx)):
        dx[t] = 0
        for k in range(place.shape[1]):
            dweights[t, k] = 0
            if place[t, k] >= 0:
                dweights[t, k] = back.inner[place[t, k]]
                _add_scaled(dx[t], dx.dtype.type(1), back.dx[place[t, k]])


@kernel
def _work(given, own, w, a, tasks, counter, step, back, dw, rows, hidden, scratch):
    i = take(counter)
    while i < len(tasks):
        kind, e, first, last = tasks[i]
        if kind == BLOCK_OF_ROWS:
            h, dg, du = back.h[first:last], back.dg[first:last], back.du[first:last]
            _activate(given, own, a, first, last, rows, h, scratch)
            gemm(False, True, rows[:last - first], w.down[e], rows.dtype.type(0), dg)
            _deactivate(given, own, w, a, e, first, last, rows, dg, du, back.inner, scratch)
            gemm(False, True, dg, w.gate[e], rows.dtype.type(0), back.dx[first:last])
            gemm(False, True, du, w.up[e], rows.dtype.type(1), back.dx[first:last])
        else:
            for start in range(first, last, step):
                _whole(given, own, w, a, e, start, min(start + step, last), start > first, back, dw, rows, hidden, scratch)
        i = take(counter)


@kernel
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


@kernel
def _activate(given, own, a, first, last, rows, h, scratch):
    """The cotangents of the rows' tokens, and the hidden rows times their weights."""
    gather(given.dy, own.token[first:last], 0, rows.shape[1], rows)
    for n in range(first, last):
        gate(a, own.g[n], own.u[n], given.scale[n], scratch[0], h[n - first])


@kernel
def _deactivate(given, own, w, a, e, first, last, rows, dg, du, inner, scratch):
    """dg comes as the cotangent of h without the weight, which receives its own gradient."""
    for n in range(first, last):
        i = n - first
        inner[n] = ungate(a, own.g[n], own.u[n], given.scale[n], scratch[0], scratch[1], scratch[2], dg[i], du[i])
        if len(w.b_down):
            for d in range(rows.shape[1]):
                inner[n] += w.b_down[e, d] * rows[i, d]


@kernel
def _tiles(given, own, tiles, counter, step, back, dw, rows):
    """Rows start .. stop-1 of one gradient of a split expert; its first tile has the bias as well."""
    i = take(counter)
    while i < len(tiles):
        which, e, start, stop = tiles[i]
        for first in range(given.offsets[e], given.offsets[e + 1], step):
            last = min(first + step, given.offsets[e + 1])
            more, token = first > given.offsets[e], own.token[first:last]
            beta = rows.dtype.type(1) if more else rows.dtype.type(0)
            if which == DOWN:
                gather(given.dy, token, 0, rows.shape[1], rows)
                gemm(True, False, back.h[first:last, start:stop], rows[:last - first], beta, dw.down[e, start:stop])
                if start == 0:
                    _sum_scaled(rows[:last - first], given.scale[first:last], more, dw.b_down, e)
            else:
                d, into, bias = (back.dg, dw.gate, dw.b_gate) if which == GATE else (back.du, dw.up, dw.b_up)
                gather(given.x, token, start, stop, rows)
                gemm(True, False, rows[:last - first, :stop - start], d[first:last], beta, into[e, start:stop])
                if start == 0:
                    _sum(d[first:last], more, bias, e)
        i = take(counter)


@kernel
def _sum(d, more, bias, e):
    """Add the rows up, in the gradient of a bias if there is one."""
    if len(bias):
        if not more:
            bias[e] = 0
        for n in range(len(d)):
            _add_scaled(bias[e], d.dtype.type(1), d[n])


@kernel
def _sum_scaled(d, scale, more, bias, e):
    if len(bias):
        if not more:
            bias[e] = 0
        for n in range(len(d)):
            _add_scaled(bias[e], scale[n], d[n])


@kernel
def _add_scaled(y, c, row):
    for d in range(len(y)):
        y[d] += c * row[d]
