"""gates.selected_softmax, and its row form."""

from __future__ import annotations

import numpy as np

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import empty, like, read
from moespec_numba_cuda._device import cuda, device
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda._rows import clear
from moespec_numba_cuda.gates import _softmax
from moespec_numba_cuda.gates._softmax import softmax_row


def forward(chosen, indices):
    admit("gates.selected_softmax", chosen, indices)
    x = read(chosen)
    weights = empty(x.shape, x.dtype)
    _selected_softmax(items(len(x)), x, read(indices, "int64"), weights)
    return like(chosen, weights), (chosen, weights)


@device
def selected_softmax_row(chosen, ids, weights):
    """A softmax over the entries that have an expert, 0 at others; without one it is 0."""
    live = False
    for j in range(len(ids)):
        weights[j] = -np.inf
        if ids[j] >= 0:
            live = True
            weights[j] = chosen[j]
    if live:
        softmax_row(weights, weights)
    else:
        clear(weights)


@kernel("T2 i2 T2")
def _selected_softmax(chosen, ids, weights):
    for t in range(cuda.grid(1), len(ids), cuda.gridsize(1)):
        selected_softmax_row(chosen[t], ids[t], weights[t])


IMPL = Impl(forward, _softmax.backward)
