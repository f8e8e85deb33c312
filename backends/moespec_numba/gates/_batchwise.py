"""gates.batchwise."""

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, read
from moespec_numba.gates._best_tokens import best_tokens, given_columns
from moespec_numba.gates._masked import masked_routing, masked_routing_backward
from moespec_numba.gates._softmax import softmax_rows


def forward(logits, indices=None, *, k=None):
    dims = OPS["gates.batchwise"].admit(logits, indices, k=k)
    probs = empty(logits.shape, logits.dtype)
    softmax_rows(read(logits), probs)
    ids = best_tokens(probs, k * dims.T // dims.E) if indices is None else given_columns(indices)
    return masked_routing(probs, ids, logits.dtype)


IMPL = Impl(forward, masked_routing_backward)
