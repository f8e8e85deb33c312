"""What the activations share as ops of their own."""

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, empty, items, read

KERNELS = Kernels(__file__, "_pointwise.cu")
NUMBER = {name: i for i, name in enumerate(("identity", "relu", "relu2", "silu", "gelu", "gelu_tanh"))}      # as in activations.cuh


def pointwise(name):
    """The implementation of the activation `name`."""
    def forward(x):
        admit(f"experts.{name}", x)
        x, y = read(x), empty(x.shape, x.dtype)
        KERNELS("activate", items(x.size), x, y, x.size, NUMBER[name])
        return y, x

    def backward(x, dy):
        dx = empty(x.shape, x.dtype)
        KERNELS("activate_backward", items(x.size), x, read(dy), dx, x.size, NUMBER[name])
        return dx

    return Impl(forward, backward)
