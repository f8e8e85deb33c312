"""gates.gshard."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, empty, read, rows
from moespec_cupy.gates._accept import factor

KERNELS = Kernels(__file__, "_gshard.cu")


class Saved(NamedTuple):
    logits: Any             # T E
    pair: Any               # T 2   both candidates, also a rejected one
    kept: Any               # T 2


def forward(logits, uniform, indices=None, *, rule="gshard", threshold=0.2):
    dims = admit("gates.gshard", logits, uniform, indices, rule=rule, threshold=threshold)
    saved = Saved(read(logits), empty((dims.T, 2), "int64"), empty((dims.T, 2), "int64"))
    weights = empty((dims.T, 2), logits.dtype)
    KERNELS("gshard", rows(dims.T), saved.logits, read(uniform), read(indices, "int64"), *saved[1:], weights,
            dims.T, dims.E, *factor(rule, threshold))
    return (saved.kept, weights), saved


def backward(saved, dweights):
    dlogits = empty(saved.logits.shape, saved.logits.dtype)
    KERNELS("gshard_backward", rows(len(dlogits)), *saved, read(dweights), dlogits, *dlogits.shape)
    return dlogits


IMPL = Impl(forward, backward)
