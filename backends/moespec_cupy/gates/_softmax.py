"""gates.softmax."""

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, empty, read, rows

KERNELS = Kernels(__file__, "_softmax.cu")


def forward(logits):
    admit("gates.softmax", logits)
    x = read(logits)
    return softmax_rows(x), x


def softmax_rows(x):
    """The softmax of every row."""
    probs = empty(x.shape, x.dtype)
    KERNELS("softmax", rows(len(x)), x, probs, *x.shape)
    return probs


def backward(x, dprobs):
    dlogits = empty(x.shape, x.dtype)
    KERNELS("softmax_backward", rows(len(x)), x, read(dprobs), dlogits, *x.shape)
    return dlogits


IMPL = Impl(forward, backward)
