"""gates.quantile_bias."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arithmetic import scale
from moespec_numba_cuda._arrays import common, convert, empty
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda.gates._nth import nth


def forward(scores, bias, *, k):
    dims = admit("gates.quantile_bias", scores, bias, k=k)
    if dims.T == 0:
        return scale(bias, 1), None
    s, b = common(scores, bias)
    biased, room = empty(s.shape, "float64"), empty((dims.E, dims.T), "float64")
    _biased(items(biased.size), s, b, biased)
    _room(items(room.size), s, convert(nth(biased, k, s.dtype.name), s.dtype), room)
    return convert(scale(nth(room, k * dims.T // dims.E, s.dtype.name), -1), bias.dtype), None


@kernel("T2 T1 d2")
def _biased(scores, bias, biased):
    experts = len(bias)
    for i in range(cuda.grid(1), len(scores) * experts, cuda.gridsize(1)):
        t, e = i // experts, i % experts
        biased[t, e] = scores[t, e] + bias[e]


@kernel("T2 T1 d2")
def _room(scores, limits, room):
    """How far every token's score at an expert is above its limit, the best biased score that was not selected."""
    tokens = len(limits)
    for i in range(cuda.grid(1), room.shape[0] * tokens, cuda.gridsize(1)):
        e, t = i // tokens, i % tokens
        room[e, t] = scores[t, e] - limits[t]


IMPL = Impl(forward)
