"""gates.batchwise."""

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy.gates._best_tokens import best_tokens
from moespec_cupy.gates._masked import masked_routing, masked_routing_backward, probabilities


def forward(logits, indices=None, *, k=None):
    dims = admit("gates.batchwise", logits, indices, k=k)
    if indices is None:
        indices = best_tokens(probabilities(logits), k * dims.T // dims.E)
    return masked_routing(logits, indices)


IMPL = Impl(forward, masked_routing_backward)
