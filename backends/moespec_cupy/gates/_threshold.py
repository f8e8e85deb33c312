"""gates.threshold."""

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, empty, read, rows
from moespec_cupy.gates._masked import masked_routing, masked_routing_backward

KERNELS = Kernels(__file__, "_exceed.cu")


def forward(logits, thresholds, indices=None):
    dims = admit("gates.threshold", logits, thresholds, indices)
    if indices is None:
        indices = empty(logits.shape, "int64")
        KERNELS("exceed", rows(dims.T), read(logits), read(thresholds), indices, dims.T, dims.E)
    return masked_routing(logits, indices)


IMPL = Impl(forward, masked_routing_backward)
