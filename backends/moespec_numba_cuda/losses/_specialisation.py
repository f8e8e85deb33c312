"""losses.specialisation."""

from __future__ import annotations

from typing import Any, NamedTuple

from moespec.numerics import acc
from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import common, empty, like
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda._rows import inner
from moespec_numba_cuda.losses._errors import squared_distances, to_outputs
from moespec_numba_cuda.losses._mean import cotangent, count_valid, masked, mean, per_token


class Saved(NamedTuple):
    probs: Any              # T E
    outputs: Any            # T E C
    target: Any             # T C
    squared: Any            # T E   squared error of every expert
    counted: Any            # 1


def forward(probs, outputs, target):
    admit("losses.specialisation", probs, outputs, target)
    (p, o, d), counted = common(probs, outputs, target), count_valid(masked(None), len(probs))
    squared, expected = squared_distances(o, d), empty(len(p), p.dtype)
    _expect(items(len(p)), p, squared, expected)
    return mean(expected, masked(None), counted, acc(probs)), Saved(probs, outputs, target, squared, counted)


def backward(saved, dloss):
    p, o, d = common(*saved[:3])
    dprobs = empty(p.shape, p.dtype)
    _to_probs(items(p.size), saved.squared, saved.counted, cotangent(dloss, p.dtype), dprobs)
    return like(saved.probs, dprobs), like(saved.outputs, to_outputs(-2.0, p, o, d, saved.counted, dloss))


@kernel("T2 T2 T1")
def _expect(probs, squared, expected):
    for t in range(cuda.grid(1), len(expected), cuda.gridsize(1)):
        expected[t] = inner(probs[t], squared[t])


@kernel("T2 d1 T1 T2")
def _to_probs(squared, counted, dloss, dprobs):
    experts, share = dprobs.shape[1], per_token(1.0, dloss, counted)
    for i in range(cuda.grid(1), dprobs.shape[0] * experts, cuda.gridsize(1)):
        t, e = i // experts, i % experts
        dprobs[t, e] = share * squared[t, e]


IMPL = Impl(forward, backward)
