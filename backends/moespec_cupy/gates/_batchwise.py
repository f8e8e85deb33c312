"""gates.batchwise."""

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Grid, Kernels, accumulation, empty, items, read, rows
from moespec_cupy.gates._masked import masked_routing, masked_routing_backward

KERNELS = Kernels(__file__, "_masked.cu")


def forward(logits, indices=None, *, k=None):
    dims = admit("gates.batchwise", logits, indices, k=k)
    if indices is None:
        probs, indices = empty(logits.shape, accumulation(logits.dtype)), empty(logits.shape, "int64")
        KERNELS("probabilities", rows(dims.T), read(logits), probs, dims.T, dims.E)
        KERNELS("best_tokens", Grid(items(dims.E, 1).blocks, 512), probs, indices, dims.T, dims.E, k * dims.T // dims.E)
    return masked_routing(logits, indices)


IMPL = Impl(forward, masked_routing_backward)
