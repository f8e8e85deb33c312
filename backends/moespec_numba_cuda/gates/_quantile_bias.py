"""gates.quantile_bias."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arithmetic import scale
from moespec_numba_cuda._arrays import common, convert, empty
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda.gates._nth import nth
from moespec_numba_cuda.gates._order import choose


def forward(scores, bias, *, k):
    dims = admit("gates.quantile_bias", scores, bias, k=k)
    if dims.T == 0:
        return scale(bias, 1), None
    s, b = common(scores, bias)
    limits, room = empty(dims.T, s.dtype), empty((dims.E, dims.T), "float64")
    biased, best, ids = empty(s.shape, s.dtype), empty((dims.T, k + 1), s.dtype), empty((dims.T, k + 1), "int64")
    _limits(items(dims.T), s, b, biased, best, ids, limits)
    _room(items(room.size), s, limits, room)
    return convert(scale(nth(room, k * dims.T // dims.E, s.dtype.name), -1), bias.dtype), None


@kernel("T2 T1 T2 T2 i2 T1")
def _limits(scores, bias, biased, best, ids, limits):
    """Of every token the best biased score that was not selected."""
    for t in range(cuda.grid(1), len(scores), cuda.gridsize(1)):
        for e in range(len(bias)):
            biased[t, e] = scores[t, e] + bias[e]
        choose(biased[t], ids[t], best[t])
        limits[t] = best[t, best.shape[1] - 1]


@kernel("T2 T1 d2")
def _room(scores, limits, room):
    """How far every token's score at an expert is above its limit."""
    tokens = len(limits)
    for i in range(cuda.grid(1), room.shape[0] * tokens, cuda.gridsize(1)):
        e, t = i // tokens, i % tokens
        room[e, t] = scores[t, e] - limits[t]


IMPL = Impl(forward)
