"""losses.gaussian_log_likelihood."""

from __future__ import annotations

from typing import Any, NamedTuple

from moespec.numerics import acc
from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import common, convert, empty, like
from moespec_numba_cuda._columns import sum_columns
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda._math import exp
from moespec_numba_cuda.losses._errors import squared_distances

LOG_2_PI = 1.8378770664093453


class Saved(NamedTuple):
    outputs: Any            # T E C
    target: Any             # T C
    log_precisions: Any     # E
    squared: Any            # T E   distances


def forward(outputs, target, log_precisions):
    admit("losses.gaussian_log_likelihood", outputs, target, log_precisions)
    o, d, logs = common(outputs, target, log_precisions)
    squared = squared_distances(o, d)
    evidence = empty(squared.shape, squared.dtype)
    _evidence(items(squared.size), squared, logs, target.shape[1], evidence)
    return convert(evidence, acc(outputs)), Saved(outputs, target, log_precisions, squared)


def backward(saved, devidence):
    outputs, target, log_precisions, squared = saved
    o, d, logs, dv = common(outputs, target, log_precisions, devidence)
    doutputs, terms = empty(o.shape, o.dtype), empty(squared.shape, o.dtype)
    _to_outputs(items(o.size), o, d, logs, dv, doutputs)
    _to_precisions(items(terms.size), squared, logs, target.shape[1], dv, terms)
    return like(outputs, doutputs), like(log_precisions, sum_columns(terms))


@kernel("T2 T1 i T2")
def _evidence(squared, logs, classes, evidence):
    experts, half, constant = len(logs), squared.dtype.type(0.5), squared.dtype.type(LOG_2_PI)
    for i in range(cuda.grid(1), squared.shape[0] * experts, cuda.gridsize(1)):
        t, e = i // experts, i % experts
        evidence[t, e] = half * squared.dtype.type(classes) * (logs[e] - constant) - half * (exp(logs[e]) * squared[t, e])


@kernel("T3 T2 T1 T2 T3")
def _to_outputs(outputs, target, logs, devidence, doutputs):
    experts, width = outputs.shape[1], outputs.shape[2]
    for i in range(cuda.grid(1), outputs.shape[0] * experts * width, cuda.gridsize(1)):
        row, c = i // width, i % width
        t, e = row // experts, row % experts
        doutputs[t, e, c] = devidence[t, e] * exp(logs[e]) * (target[t, c] - outputs[t, e, c])


@kernel("T2 T1 i T2 T2")
def _to_precisions(squared, logs, classes, devidence, terms):
    """What every token adds."""
    experts, half = len(logs), squared.dtype.type(0.5)
    for i in range(cuda.grid(1), squared.shape[0] * experts, cuda.gridsize(1)):
        t, e = i // experts, i % experts
        terms[t, e] = half * devidence[t, e] * (squared.dtype.type(classes) - exp(logs[e]) * squared[t, e])


IMPL = Impl(forward, backward)
