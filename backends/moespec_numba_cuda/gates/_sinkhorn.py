"""gates.sinkhorn: a sweep is a launch over the rows and one over the columns; long columns take another, since chunks of them are first."""

from __future__ import annotations

import math

import numpy as np

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import empty, like, read, zeros
from moespec_numba_cuda._chunks import chunks_of
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda._math import exp, log


def forward(logits, *, iterations=20):
    dims = admit("gates.sinkhorn", logits, iterations=iterations)
    x = read(logits)
    plan, f, g = empty(x.shape, x.dtype), empty(dims.T, x.dtype), zeros(dims.E, x.dtype)
    shifts, sums = (empty((chunks_of(dims.T), dims.E), x.dtype) for _ in range(2))
    if x.size:
        share = math.log(dims.T / dims.E)
        for _ in range(iterations):
            _rows(items(dims.T), x, g, f)
            _chunks(items(sums.size), x, f, shifts, sums, share, g)
            if len(sums) > 1:
                _columns(items(dims.E), shifts, sums, share, g)
        _plan(items(x.size), x, f, g, plan)
    return like(logits, plan), None


@kernel("T2 T1 T1")
def _rows(logits, g, f):
    low, zero = logits.dtype.type(-np.inf), logits.dtype.type(0)
    for t in range(cuda.grid(1), len(logits), cuda.gridsize(1)):
        top, total = low, zero
        for e in range(len(g)):
            x = logits[t, e] + g[e]
            if x > top:
                top = x
        shift = top if top - top == zero else zero                          # what exponents are shifted by, if it is finite
        for e in range(len(g)):
            total += exp(logits[t, e] + g[e] - shift)
        f[t] = -(log(total) + shift)


@kernel("T2 T1 T2 T2 T T1")
def _chunks(logits, f, shifts, sums, share, g):
    """The sums of exponentials of every column, by chunks of tokens, each with its shift; g at once where one chunk is all."""
    tokens, (chunks, experts) = len(logits), sums.shape
    low, zero = logits.dtype.type(-np.inf), logits.dtype.type(0)
    for i in range(cuda.grid(1), chunks * experts, cuda.gridsize(1)):
        c, e = i // experts, i % experts
        first, last = c * tokens // chunks, (c + 1) * tokens // chunks
        top, total = low, zero
        for t in range(first, last):
            x = logits[t, e] + f[t]
            if x > top:
                top = x
        shift = top if top - top == zero else zero
        for t in range(first, last):
            total += exp(logits[t, e] + f[t] - shift)
        if chunks == 1:
            g[e] = share - (log(total) + shift)
        else:
            shifts[c, e], sums[c, e] = shift, total


@kernel("T2 T2 T T1")
def _columns(shifts, sums, share, g):
    """A chunk that is 0 has no shift of its own."""
    zero = sums.dtype.type(0)
    for e in range(cuda.grid(1), len(g), cuda.gridsize(1)):
        top, total = sums.dtype.type(-np.inf), zero
        for c in range(len(sums)):
            if sums[c, e] != zero and shifts[c, e] > top:
                top = shifts[c, e]
        shift = top if top - top == zero else zero
        for c in range(len(sums)):
            if sums[c, e] != zero:
                total += sums[c, e] * exp(shifts[c, e] - shift)
        g[e] = share - (log(total) + shift)


@kernel("T2 T1 T1 T2")
def _plan(logits, f, g, plan):
    experts = len(g)
    for i in range(cuda.grid(1), len(f) * experts, cuda.gridsize(1)):
        t, e = i // experts, i % experts
        plan[t, e] = exp(logits[t, e] + f[t] + g[e])


IMPL = Impl(forward)
