"""losses.cooperation."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, accumulation, empty, read, rows
from moespec_cupy.experts._products import common, like
from moespec_cupy.losses._mean import valid_mean

KERNELS = Kernels(__file__, "_mixtures.cu")


class Saved(NamedTuple):
    probs: Any              # T E
    outputs: Any            # T E C
    arrays: list            # both and the target in one dtype
    error: Any              # T C   target - blended output


def forward(probs, outputs, target):
    dims, arrays = admit("losses.cooperation", probs, outputs, target), common(probs, outputs, target)
    acc = accumulation(arrays[0].dtype)
    error, squares = empty(target.shape, acc), empty(dims.T, acc)
    KERNELS("blend_error", rows(dims.T), *arrays, error, squares, *outputs.shape)
    return valid_mean(squares)[0].astype(accumulation(probs.dtype), copy=False), Saved(probs, outputs, arrays, error)


def backward(saved, dloss):
    (p, o, _), error = saved.arrays, saved.error
    dprobs, doutputs = empty(p.shape, p.dtype), empty(o.shape, o.dtype)
    KERNELS("blend_error_backward", rows(p.size), p, o, error, read(dloss, error.dtype), dprobs, doutputs, 1 / max(len(p), 1), *o.shape)
    return like(saved.probs, dprobs), like(saved.outputs, doutputs)


IMPL = Impl(forward, backward)
