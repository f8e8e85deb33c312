"""The grouped products: the rows of every expert times its matrix, and the two products of backward."""

import numpy as np
from numba import prange

from moespec_numba._blas import gemm
from moespec_numba._few import FEW, few_nn, few_nt_tn
from moespec_numba._kernel import empty, kernel, read, zeros
from moespec_numba._queue import BLOCK, blocks, counter, largest_first, list_blocks, take
from moespec_numba._threads import one_blas_thread

TILE = 256                              # rows of a weight gradient that are one task
ROWS, GRADIENT, BOTH = range(3)         # what a task of backward computes


@kernel(entry=False)
def push(x, w, out):
    """out = x w."""
    if len(x) <= FEW:
        few_nn(x, w, out)
    else:
        gemm(False, False, x, w, out.dtype.type(0), out)


@kernel(entry=False)
def pull(y, w, x, add, out, more, dw):
    """out = y w^T and dw = x^T y, each added to what is there where `add` or `more`."""
    zero, one = out.dtype.type(0), out.dtype.type(1)
    if len(y) <= FEW and not more:
        few_nt_tn(y, w, x, add, out, dw)
    else:
        gemm(False, True, y, w, one if add else zero, out)
        gemm(True, False, x, y, one if more else zero, dw)


def gradient(w, offsets):
    """Memory for the gradient of w: zeroed, by the system, only if an expert has no row."""
    return (zeros if (offsets[1:] == offsets[:-1]).any() else empty)(w.shape, w.dtype)


def row_blocks(offsets):
    """Tasks (expert, first row, last row + 1), largest first."""
    tasks = empty((len(offsets) - 1 + int(offsets[-1]) // BLOCK, 3), "int64")
    return tasks[:list_blocks(read(offsets), zeros(BLOCK, "int64"), tasks)]


def longest(tasks):
    """The rows of the first, largest task."""
    return int(tasks[0, 2] - tasks[0, 1]) if len(tasks) else 0


def grouped(rows, w, offsets):
    """[N, F]: every row times the matrix of its expert; dead rows are 0."""
    out = empty((len(rows), w.shape[2]), rows.dtype)
    out[offsets[-1]:] = 0
    tasks = row_blocks(offsets)
    with one_blas_thread(longest(tasks) > FEW) as threads:
        _push(read(rows), read(w), tasks, counter(), out, threads)
    return out


def grouped_backward(dout, w, rows, offsets, drows=None):
    """[N, D] dout w^T (added to `drows` where given; dead rows 0), and [E, D, F] rows^T dout; an expert without rows gets 0."""
    add = drows is not None
    if not add:
        drows = empty(rows.shape, rows.dtype)
        drows[offsets[-1]:] = 0
    dw = gradient(w, offsets)
    with one_blas_thread() as threads:
        _pull(read(dout), read(w), read(rows), offsets, _tasks(offsets, w.shape[1]), counter(), add, drows, dw, threads)
    return drows, dw


def _tasks(offsets, depth):
    """Tasks (kind, expert, first, last + 1) of backward: an expert of few rows is one, another many."""
    sizes, experts = np.diff(offsets), np.arange(len(offsets) - 1)
    few, many = experts[(sizes > 0) & (sizes <= FEW)], experts[sizes > FEW]
    whole = np.stack([few, offsets[few], offsets[few + 1]], axis=1)
    rows = blocks(offsets[many], offsets[many + 1], BLOCK)
    tiles = blocks(np.zeros_like(many), np.full_like(many, depth), TILE)
    for tasks in (rows, tiles):
        tasks[:, 0] = many[tasks[:, 0]]
    kinds = np.repeat([BOTH, ROWS, GRADIENT], [len(whole), len(rows), len(tiles)])
    tasks = np.column_stack([kinds, np.concatenate([whole, rows, tiles])])
    length = tasks[:, 3] - tasks[:, 2]
    return largest_first(tasks, np.where(kinds == GRADIENT, length * sizes[tasks[:, 1]], length * depth))


@kernel(parallel=True)
def _push(rows, w, tasks, counter, out, threads):
    for _ in prange(threads):
        _push_tasks(rows, w, tasks, counter, out)


@kernel(entry=False)
def _push_tasks(rows, w, tasks, counter, out):
    i = take(counter)
    while i < len(tasks):
        e, a, z = tasks[i]
        push(rows[a:z], w[e], out[a:z])
        i = take(counter)


@kernel(parallel=True)
def _pull(dout, w, rows, offsets, tasks, counter, add, drows, dw, threads):
    for _ in prange(threads):
        _pull_tasks(dout, w, rows, offsets, tasks, counter, add, drows, dw)


@kernel(entry=False)
def _pull_tasks(dout, w, rows, offsets, tasks, counter, add, drows, dw):
    zero, one = w.dtype.type(0), w.dtype.type(1)
    i = take(counter)
    while i < len(tasks):
        kind, e, a, z = tasks[i]
        if kind == ROWS:
            gemm(False, True, dout[a:z], w[e], one if add else zero, drows[a:z])
        elif kind == GRADIENT:
            first, last = offsets[e], offsets[e + 1]
            gemm(True, False, rows[first:last, a:z], dout[first:last], zero, dw[e, a:z])
        else:
            pull(dout[a:z], w[e], rows[a:z], add, drows[a:z], False, dw[e])
        i = take(counter)
