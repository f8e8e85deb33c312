"""gates.softmax."""

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, empty, read, rows

KERNELS = Kernels(__file__, "_softmax.cu")


def forward(logits):
    dims = admit("gates.softmax", logits)
    x, probs = read(logits), empty(logits.shape, logits.dtype)
    KERNELS("softmax", rows(dims.T), x, probs, dims.T, dims.E)
    return probs, x


def backward(x, dprobs):
    dlogits = empty(x.shape, x.dtype)
    KERNELS("softmax_backward", rows(len(x)), x, read(dprobs), dlogits, *x.shape)
    return dlogits


IMPL = Impl(forward, backward)
