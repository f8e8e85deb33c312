"""gates.joint_weights."""

from typing import NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, empty, read, rows

KERNELS = Kernels(__file__, "_joint_weights.cu")


class Saved(NamedTuple):
    inputs: tuple           # chosen T K, shared T M, indices T K
    how: tuple              # T, K, M, eps, scale


def forward(chosen, shared, indices, *, eps=0.0, scale=1.0):
    dims = admit("gates.joint_weights", chosen, shared, indices, eps=eps, scale=scale)
    saved = Saved((read(chosen), read(shared), read(indices, "int64")), (dims.T, dims.K, dims.M, eps, scale))
    found = empty(chosen.shape, chosen.dtype), empty(shared.shape, shared.dtype)
    KERNELS("joint_weights", rows(dims.T), *saved.inputs, *found, *saved.how)
    return found, saved


def backward(saved, dweights, dshared_weights):
    chosen, shared, _ = saved.inputs
    grads = empty(chosen.shape, chosen.dtype), empty(shared.shape, shared.dtype)
    KERNELS("joint_weights_backward", rows(len(chosen)), *saved.inputs, read(dweights), read(dshared_weights), *grads, *saved.how)
    return grads


IMPL = Impl(forward, backward)
