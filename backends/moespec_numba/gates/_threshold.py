"""gates.threshold."""

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read
from moespec_numba.gates._best_tokens import given_columns
from moespec_numba.gates._masked import masked_routing, masked_routing_backward
from moespec_numba.gates._softmax import softmax_rows


def forward(logits, thresholds, indices=None):
    OPS["gates.threshold"].admit(logits, thresholds, indices)
    dtype = np.result_type(logits, thresholds)
    probs = empty(logits.shape, dtype)
    softmax_rows(read(logits, dtype), probs)
    if indices is None:
        ids = empty(logits.shape, "int64")
        _exceed(read(probs), read(thresholds, dtype), ids)
    else:
        ids = given_columns(indices)
    return masked_routing(probs, ids, logits.dtype)


@kernel
def _exceed(probs, thresholds, ids):
    for t in range(len(probs)):
        for e in range(len(thresholds)):
            ids[t, e] = e if probs[t, e] > thresholds[e] else -1


IMPL = Impl(forward, masked_routing_backward)
