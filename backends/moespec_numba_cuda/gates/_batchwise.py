"""gates.batchwise."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import read
from moespec_numba_cuda.gates._best_tokens import best_tokens
from moespec_numba_cuda.gates._masked import columns, masked_routing, masked_routing_backward
from moespec_numba_cuda.gates._softmax import softmax_rows


def forward(logits, indices=None, *, k=None):
    dims = admit("gates.batchwise", logits, indices, k=k)
    probs = softmax_rows(read(logits))
    return masked_routing(logits, probs, best_tokens(probs, k * dims.T // dims.E) if indices is None else columns(indices))


IMPL = Impl(forward, masked_routing_backward)
