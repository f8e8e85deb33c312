"""gates.selected_softmax."""

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, empty, read, rows

KERNELS = Kernels(__file__, "_selected_softmax.cu")


def forward(chosen, indices):
    dims = admit("gates.selected_softmax", chosen, indices)
    saved, weights = (read(chosen), read(indices, "int64")), empty(chosen.shape, chosen.dtype)
    KERNELS("selected_softmax", rows(dims.T), *saved, weights, dims.T, dims.K)
    return weights, saved


def backward(saved, dweights):
    dchosen = empty(dweights.shape, dweights.dtype)
    KERNELS("selected_softmax_backward", rows(len(dchosen)), *saved, read(dweights), dchosen, *dchosen.shape)
    return dchosen


IMPL = Impl(forward, backward)
