"""gates.threshold."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import common, empty
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda.gates._masked import columns, masked_routing, masked_routing_backward
from moespec_numba_cuda.gates._softmax import softmax_rows


def forward(logits, thresholds, indices=None):
    admit("gates.threshold", logits, thresholds, indices)
    x, least = common(logits, thresholds)
    probs = softmax_rows(x)
    if indices is not None:
        return masked_routing(logits, probs, columns(indices))
    ids = empty(probs.shape, "int64")
    _exceed(items(ids.size), probs, least, ids)
    return masked_routing(logits, probs, ids)


@kernel("T2 T1 i2")
def _exceed(probs, least, ids):
    tokens, experts = probs.shape
    for i in range(cuda.grid(1), tokens * experts, cuda.gridsize(1)):
        t, e = i // experts, i % experts
        ids[t, e] = e if probs[t, e] > least[e] else -1


IMPL = Impl(forward, masked_routing_backward)
