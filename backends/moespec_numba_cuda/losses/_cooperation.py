"""losses.cooperation."""

from __future__ import annotations

from typing import Any, NamedTuple

from moespec.numerics import acc
from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import common, empty, like
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda._rows import inner
from moespec_numba_cuda.losses._mean import cotangent, count_valid, masked, mean, per_token


class Saved(NamedTuple):
    probs: Any              # T E
    outputs: Any            # T E C
    error: Any              # T C   target - blended output
    counted: Any            # 1


def forward(probs, outputs, target):
    admit("losses.cooperation", probs, outputs, target)
    (p, o, d), counted = common(probs, outputs, target), count_valid(masked(None), len(probs))
    error, squared = empty(d.shape, d.dtype), empty(len(d), d.dtype)
    _blend(items(d.size), p, o, d, error)
    _square(items(len(d)), error, squared)
    return mean(squared, masked(None), counted, acc(probs)), Saved(probs, outputs, error, counted)


def backward(saved, dloss):
    p, o, error = common(*saved[:3])
    dprobs, doutputs, dloss = empty(p.shape, p.dtype), empty(o.shape, o.dtype), cotangent(dloss, p.dtype)
    _to_probs(items(p.size), o, error, saved.counted, dloss, dprobs)
    _to_outputs(items(o.size), p, error, saved.counted, dloss, doutputs)
    return like(saved.probs, dprobs), like(saved.outputs, doutputs)


@kernel("T2 T3 T2 T2")
def _blend(probs, outputs, target, error):
    width = target.shape[1]
    for i in range(cuda.grid(1), target.shape[0] * width, cuda.gridsize(1)):
        t, c = i // width, i % width
        total = probs.dtype.type(0)
        for e in range(probs.shape[1]):
            total += probs[t, e] * outputs[t, e, c]
        error[t, c] = target[t, c] - total


@kernel("T2 T1")
def _square(error, squared):
    for t in range(cuda.grid(1), len(squared), cuda.gridsize(1)):
        squared[t] = inner(error[t], error[t])


@kernel("T3 T2 d1 T1 T2")
def _to_probs(outputs, error, counted, dloss, dprobs):
    experts, share = dprobs.shape[1], per_token(-2.0, dloss, counted)
    for i in range(cuda.grid(1), dprobs.shape[0] * experts, cuda.gridsize(1)):
        t, e = i // experts, i % experts
        dprobs[t, e] = share * inner(error[t], outputs[t, e])


@kernel("T2 T2 d1 T1 T3")
def _to_outputs(probs, error, counted, dloss, doutputs):
    experts, width, share = doutputs.shape[1], doutputs.shape[2], per_token(-2.0, dloss, counted)
    for i in range(cuda.grid(1), doutputs.shape[0] * experts * width, cuda.gridsize(1)):
        row, c = i // width, i % width
        t, e = row // experts, row % experts
        doutputs[t, e, c] = probs[t, e] * (share * error[t, c])


IMPL = Impl(forward, backward)
