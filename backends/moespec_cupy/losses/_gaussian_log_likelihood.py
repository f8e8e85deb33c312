"""losses.gaussian_log_likelihood."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, accumulation, columns, empty, items, read, rows
from moespec_cupy.experts._products import common, like
from moespec_cupy.losses._mixture_nll import KERNELS as MIXTURES

KERNELS = Kernels(__file__, "_gaussian_log_likelihood.cu")


class Saved(NamedTuple):
    outputs: Any            # T E C
    log_precisions: Any     # E
    arrays: list            # both and the target in one dtype: outputs, target, log precisions
    squared: Any            # T E   distances


def forward(outputs, target, log_precisions):
    admit("losses.gaussian_log_likelihood", outputs, target, log_precisions)
    o, d, logs = common(outputs, target, log_precisions)
    acc = accumulation(o.dtype)
    squared, evidence = empty(o.shape[:2], acc), empty(o.shape[:2], acc)
    MIXTURES("squared_errors", rows(squared.size), o, d, squared, *o.shape)
    KERNELS("gaussian_evidence", items(squared.size), squared, logs, evidence, squared.size, *o.shape[1:])
    return evidence.astype(accumulation(outputs.dtype), copy=False), Saved(outputs, log_precisions, [o, d, logs], squared)


def backward(saved, devidence):
    (o, d, logs), squared = saved.arrays, saved.squared
    dv, doutputs, dlogs = read(devidence, squared.dtype), empty(o.shape, o.dtype), empty(logs.shape, logs.dtype)
    KERNELS("gaussian_evidence_to_outputs", items(o.size), o, d, logs, dv, doutputs, o.size, *o.shape[1:])
    KERNELS("gaussian_evidence_to_precisions", columns(len(logs), len(o)), squared, logs, dv, dlogs, *o.shape)
    return like(saved.outputs, doutputs), like(saved.log_precisions, dlogs)


IMPL = Impl(forward, backward)
