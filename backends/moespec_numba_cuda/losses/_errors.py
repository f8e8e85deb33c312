"""Errors of the experts' outputs, an output [T, E, C] against a target [T, C]."""

from __future__ import annotations

from moespec_numba_cuda._arrays import empty
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda.losses._mean import cotangent, per_token


def squared_distances(outputs, target):
    """[T, E]."""
    squared = empty((outputs.shape[0], outputs.shape[1]), outputs.dtype)
    _squared(items(squared.size), outputs, target, squared)
    return squared


def to_outputs(factor, weights, outputs, target, counted, dloss):
    """[T, E, C]: what the mean of factor weights[t, e] (target - output) hands down, per error."""
    doutputs = empty(outputs.shape, outputs.dtype)
    _to_outputs(items(outputs.size), factor, weights, outputs, target, counted, cotangent(dloss, outputs.dtype), doutputs)
    return doutputs


@kernel("T3 T2 T2")
def _squared(outputs, target, squared):
    experts, width = outputs.shape[1], outputs.shape[2]
    for i in range(cuda.grid(1), outputs.shape[0] * experts, cuda.gridsize(1)):
        t, e = i // experts, i % experts
        total = outputs.dtype.type(0)
        for c in range(width):
            total += (target[t, c] - outputs[t, e, c]) * (target[t, c] - outputs[t, e, c])
        squared[t, e] = total


@kernel("d T2 T3 T2 d1 T1 T3")
def _to_outputs(factor, weights, outputs, target, counted, dloss, doutputs):
    experts, width, share = outputs.shape[1], outputs.shape[2], per_token(factor, dloss, counted)
    for i in range(cuda.grid(1), outputs.shape[0] * experts * width, cuda.gridsize(1)):
        row, c = i // width, i % width
        t, e = row // experts, row % experts
        doutputs[t, e, c] = share * weights[t, e] * (target[t, c] - outputs[t, e, c])
