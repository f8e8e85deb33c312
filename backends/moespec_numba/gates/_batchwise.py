"""gates.batchwise."""

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read
from moespec_numba.gates._masked import masked_routing, masked_routing_backward
from moespec_numba.gates._softmax import softmax_rows


def forward(logits, indices=None, *, k=None):
    dims = OPS["gates.batchwise"].admit(logits, indices, k=k)
    probs = empty(logits.shape, logits.dtype)
    softmax_rows(read(logits), probs)
    ids = _best_tokens(probs, k * dims.T // dims.E) if indices is None else np.array(indices, "int64", order="C")
    return masked_routing(probs, ids, logits.dtype)


def _best_tokens(probs, m):
    """Column i holds i at its m best tokens, -1 elsewhere."""
    tokens, experts = probs.shape
    ids = np.full(probs.shape, -1, "int64")
    if m:
        columns = empty((experts, tokens), probs.dtype)
        _columns(read(probs), columns)
        last = np.partition(columns, tokens - m, axis=1)[:, tokens - m]
        _mark(read(columns), read(last), m, ids)
    return ids


@kernel
def _columns(probs, columns):
    """The transpose, in which NaN is above every number."""
    for t in range(len(probs)):
        for e in range(len(columns)):
            columns[e, t] = probs[t, e] if probs[t, e] == probs[t, e] else np.inf


@kernel
def _mark(columns, last, m, ids):
    """Every token above the last score of a column, and of those at it the earliest until m are found."""
    experts, tokens = columns.shape
    for e in range(experts):
        room = m
        for t in range(tokens):
            room -= columns[e, t] > last[e]
        for t in range(tokens):
            at = columns[e, t] == last[e] and room > 0
            room -= at
            if at or columns[e, t] > last[e]:
                ids[t, e] = e


IMPL = Impl(forward, masked_routing_backward)
