"""losses.specialisation."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, accumulation, empty, items, read, rows
from moespec_cupy.experts._products import common, like
from moespec_cupy.losses._mean import valid_mean

KERNELS = Kernels(__file__, "_mixtures.cu")


class Saved(NamedTuple):
    probs: Any              # T E
    outputs: Any            # T E C
    arrays: list            # both and the target in one dtype
    squared: Any            # T E   error of every expert


def forward(probs, outputs, target):
    dims, (p, o, d) = admit("losses.specialisation", probs, outputs, target), common(probs, outputs, target)
    acc = accumulation(p.dtype)
    squared, values = empty(p.shape, acc), empty(dims.T, acc)
    KERNELS("squared_errors", rows(p.size), o, d, squared, *o.shape)
    KERNELS("expected", rows(dims.T), p, squared, values, *p.shape)
    return valid_mean(values)[0].astype(accumulation(probs.dtype), copy=False), Saved(probs, outputs, [p, o, d], squared)


def backward(saved, dloss):
    (p, o, d), dloss, share = saved.arrays, read(dloss, saved.squared.dtype), 1 / max(len(saved.probs), 1)
    dprobs, doutputs = empty(p.shape, p.dtype), empty(o.shape, o.dtype)
    KERNELS("expected_backward", items(p.size), saved.squared, dloss, dprobs, share, p.size)
    KERNELS("errors_backward", items(o.size), read(p, dloss.dtype), o, d, dloss, doutputs, 2 * share, o.size, *o.shape[1:])
    return like(saved.probs, dprobs), like(saved.outputs, doutputs)


IMPL = Impl(forward, backward)
