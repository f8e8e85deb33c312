"""gates.hierarchical."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import common, empty, flat, like, read
from moespec_numba_cuda._device import cuda, device
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda._rows import inner, legal
from moespec_numba_cuda.gates._accept import mask_row
from moespec_numba_cuda.gates._gather import untake
from moespec_numba_cuda.gates._order import choose, selection
from moespec_numba_cuda.gates._selected_softmax import selected_softmax_row
from moespec_numba_cuda.gates._softmax import through_softmax_row


class Saved(NamedTuple):
    group_weights: Any      # T A   as they came
    logits: Any             # T E
    ids: Any                # T A k
    shares: Any             # T A k the secondary weights, in the accumulation dtype


def forward(group_indices, group_weights, logits, indices=None, *, k, groups):
    dims = admit("gates.hierarchical", group_indices, group_weights, logits, indices, k=k, groups=groups)
    by, x = common(group_weights, logits)
    given, ids = selection(indices, dims.T, dims.A * k)
    shares, weights = empty(ids.shape, x.dtype), empty(ids.shape, x.dtype)
    own, lines = x.reshape(dims.T, groups, dims.E // groups), (dims.T * dims.A, k)
    given = given if indices is None else given.reshape(lines)
    _forward(items(lines[0]), flat(read(group_indices, "int64")), flat(by), own, given, dims.A, ids.reshape(lines), shares.reshape(lines),
             weights.reshape(lines))
    return (ids, like(logits, weights)), Saved(group_weights, logits, ids, shares)


def backward(saved, dweights):
    by, dtype = read(saved.group_weights, saved.shares.dtype), saved.shares.dtype
    dgroups, dchosen, d = empty(by.shape, dtype), empty(saved.ids.shape, dtype), read(dweights, dtype)
    lines = by.size, saved.ids.shape[1] // max(by.shape[1], 1)
    _backward(items(by.size), flat(by), *(a.reshape(lines) for a in (saved.ids, saved.shares, d)), flat(dgroups), dchosen.reshape(lines))
    return like(saved.group_weights, dgroups), like(saved.logits, untake(dchosen, saved.ids, saved.logits.shape[1]))


@device
def _localise(given, group, size, ids):
    """A given selection within its group; who is not of the group is nobody."""
    for j in range(len(ids)):
        e = given[j] - group * size
        ids[j] = legal(e, size) if group >= 0 else -1


@kernel("i1 T1 T3 i2 i i2 T2 T2")
def _forward(group_ids, group_weights, logits, given, chosen, ids, shares, weights):
    groups, size, k = logits.shape[1], logits.shape[2], ids.shape[1]
    nothing, zero = logits.dtype.type(-np.inf), logits.dtype.type(0)
    for i in range(cuda.grid(1), len(group_ids), cuda.gridsize(1)):
        g = legal(group_ids[i], groups)
        own = logits[i // chosen, max(g, 0)]
        if len(given) > 0:
            _localise(given[i], g, size, ids[i])
        elif g >= 0:
            choose(own, ids[i], shares[i])
        else:
            for j in range(k):
                ids[i, j] = -1
        for j in range(k):
            weights[i, j] = own[ids[i, j]] if ids[i, j] >= 0 else nothing
        selected_softmax_row(weights[i], ids[i], shares[i])
        for j in range(k):
            weights[i, j] = group_weights[i] * shares[i, j] if ids[i, j] >= 0 else zero
            ids[i, j] = ids[i, j] + g * size if ids[i, j] >= 0 else -1


@kernel("T1 i2 T2 T2 T1 T2")
def _backward(group_weights, ids, shares, dweights, dgroups, dchosen):
    k = ids.shape[1]
    for i in range(cuda.grid(1), len(ids), cuda.gridsize(1)):
        d = dchosen[i]
        mask_row(dweights[i], ids[i], d)
        dgroups[i] = inner(shares[i], d)
        for j in range(k):
            d[j] *= group_weights[i]
        through_softmax_row(shares[i], d, d)


IMPL = Impl(forward, backward)
