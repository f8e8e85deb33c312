"""gates.soft: blocks take a group and a few slots, whose columns their threads go down together."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import like, read, zeros
from moespec_numba_cuda._device import SIMULATED, cuda
from moespec_numba_cuda._kernel import blocks, kernel
from moespec_numba_cuda._math import exp
from moespec_numba_cuda.gates import _softmax
from moespec_numba_cuda.gates._by_group import Groups, by_group

WIDE = 2 if SIMULATED else 32           # slots of a block
LINES = 2 if SIMULATED else 16          # threads of a slot


class Saved(NamedTuple):
    logits: Any             # T S   as they came
    dispatch: Any           # T S   not rounded
    combine: Any            # T S   not rounded
    groups: Groups


def forward(logits, group=None):
    admit("gates.soft", logits, group)
    x, groups = read(logits), by_group(group, logits.shape[0])
    dispatch, combine = zeros(x.shape, x.dtype), _softmax.softmax_rows(x)
    _over_tokens(_grid(x, groups), x, *groups, dispatch)
    return (like(logits, dispatch), like(logits, combine)), Saved(logits, dispatch, combine, groups)


def backward(saved, ddispatch, dcombine):
    dispatch, combine = saved.dispatch, saved.combine
    if dcombine is None:
        dlogits = zeros(combine.shape, combine.dtype)
    else:
        dlogits = _softmax.through_softmax_rows(combine, read(dcombine, combine.dtype))
    if ddispatch is not None:
        _back_over_tokens(_grid(dispatch, saved.groups), dispatch, read(ddispatch, dispatch.dtype), *saved.groups, dlogits)
    return like(saved.logits, dlogits)


def _grid(x, groups):
    return blocks(groups.most * -(-x.shape[1] // WIDE), WIDE * LINES)


@kernel("T2 i1 i1 T2")
def _over_tokens(logits, order, starts, dispatch):
    """A softmax down every column of a group; a NaN reaches the sum of its column."""
    tops = cuda.shared.array((LINES, WIDE), logits.dtype)
    totals = cuda.shared.array((LINES, WIDE), logits.dtype)
    slots, lane, line = logits.shape[1], cuda.threadIdx.x % WIDE, cuda.threadIdx.x // WIDE
    tiles, nothing, zero = (slots + WIDE - 1) // WIDE, logits.dtype.type(-np.inf), logits.dtype.type(0)
    for b in range(cuda.blockIdx.x, (len(starts) - 1) * tiles, cuda.gridDim.x):
        s, first, stop = b % tiles * WIDE + lane, starts[b // tiles], starts[b // tiles + 1]
        if first < stop:                                    # the same in all threads
            last, top, total, whole = stop if s < slots else first, nothing, zero, zero
            for i in range(first + line, last, LINES):
                if logits[order[i], s] > top:
                    top = logits[order[i], s]
            tops[line, lane] = top
            cuda.syncthreads()
            for other in range(LINES):
                if tops[other, lane] > top:
                    top = tops[other, lane]
            for i in range(first + line, last, LINES):
                share = exp(logits[order[i], s] - top)
                dispatch[order[i], s] = share
                total += share
            totals[line, lane] = total
            cuda.syncthreads()                              # tops are read, totals are written
            for other in range(LINES):
                whole += totals[other, lane]
            for i in range(first + line, last, LINES):
                dispatch[order[i], s] /= whole


@kernel("T2 T2 i1 i1 T2")
def _back_over_tokens(dispatch, ddispatch, order, starts, dlogits):
    """Adds what comes through the softmax over the tokens.  Who is done may write for the next tile while others still read this one's."""
    parts = cuda.shared.array((2, LINES, WIDE), dispatch.dtype)
    slots, lane, line = dispatch.shape[1], cuda.threadIdx.x % WIDE, cuda.threadIdx.x // WIDE
    tiles, zero, turn = (slots + WIDE - 1) // WIDE, dispatch.dtype.type(0), 0
    for b in range(cuda.blockIdx.x, (len(starts) - 1) * tiles, cuda.gridDim.x):
        s, first, stop = b % tiles * WIDE + lane, starts[b // tiles], starts[b // tiles + 1]
        if first < stop:
            last, part, along = stop if s < slots else first, zero, zero
            for i in range(first + line, last, LINES):
                part += dispatch[order[i], s] * ddispatch[order[i], s]
            parts[turn, line, lane] = part
            cuda.syncthreads()
            for other in range(LINES):
                along += parts[turn, other, lane]
            for i in range(first + line, last, LINES):
                t = order[i]
                dlogits[t, s] += dispatch[t, s] * (ddispatch[t, s] - along)
            turn = 1 - turn


IMPL = Impl(forward, backward)
