"""gates.hierarchical."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read, zeros
from moespec_numba.gates._gather import take_row, untake_row
from moespec_numba.gates._order import choose, selection
from moespec_numba.gates._selected_softmax import selected_softmax_row
from moespec_numba.gates._softmax import through_softmax_row


class Saved(NamedTuple):
    group_weights: np.ndarray   # T A
    indices: np.ndarray         # T B
    shares: np.ndarray          # T B   the secondary weights
    experts: int
    dtypes: tuple               # of the group weights and the logits


def forward(group_indices, group_weights, logits, indices=None, *, k, groups):
    dims = OPS["gates.hierarchical"].admit(group_indices, group_weights, logits, indices, k=k, groups=groups)
    dtype = np.result_type(group_weights, logits)
    ids, given = selection(indices, dims.T, dims.A * k)
    shares, weights = empty(ids.shape, dtype), empty(ids.shape, logits.dtype)
    weights_of_groups = read(group_weights, dtype)
    _forward(read(group_indices, "int64"), weights_of_groups, read(logits, dtype), k, dims.E // groups, given, ids, shares, weights)
    return (ids, weights), Saved(weights_of_groups, read(ids), read(shares), dims.E, (group_weights.dtype, logits.dtype))


def backward(saved, dweights):
    dtype, dtypes = saved.shares.dtype, saved.dtypes
    dgroups, dlogits = empty(saved.group_weights.shape, dtype), zeros((len(dweights), saved.experts), dtype)
    _backward(*saved[:3], read(dweights, dtype), dgroups, dlogits)
    return dgroups.astype(dtypes[0], copy=False), dlogits.astype(dtypes[1], copy=False)


@kernel
def _forward(group_ids, group_weights, logits, k, size, given, ids, shares, weights):
    room = np.empty(k, logits.dtype)
    for t in range(len(ids)):
        for a in range(group_ids.shape[1]):
            mine, share, first = ids[t, a * k:(a + 1) * k], shares[t, a * k:(a + 1) * k], group_ids[t, a] * size
            if group_ids[t, a] < 0:
                mine[:] = -1
            elif not given:
                choose(logits[t, first:first + size], mine, room)
                mine += first
            take_row(logits[t], mine, -np.inf, room)
            selected_softmax_row(room, mine, share)
            for j in range(k):
                weights[t, a * k + j] = group_weights[t, a] * share[j] if mine[j] >= 0 else 0


@kernel
def _backward(group_weights, ids, shares, dweights, dgroups, dlogits):
    tokens, chosen = group_weights.shape
    k = ids.shape[1] // max(chosen, 1)
    d = np.empty(k, shares.dtype)
    for t in range(tokens):
        for a in range(chosen):
            mine, share = ids[t, a * k:(a + 1) * k], shares[t, a * k:(a + 1) * k]
            dgroups[t, a] = 0
            for j in range(k):
                d[j] = dweights[t, a * k + j] if mine[j] >= 0 else 0
                dgroups[t, a] += share[j] * d[j]
                d[j] *= group_weights[t, a]
            through_softmax_row(share, d, d)
            untake_row(d, mine, dlogits[t])


IMPL = Impl(forward, backward)
