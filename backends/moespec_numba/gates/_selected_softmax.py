"""gates.selected_softmax, and its row form."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read
from moespec_numba.gates._softmax import backward as through_softmax
from moespec_numba.gates._softmax import softmax_row


class Saved(NamedTuple):
    probs: np.ndarray       # T K


def forward(chosen, indices):
    OPS["gates.selected_softmax"].admit(chosen, indices)
    weights = empty(chosen.shape, chosen.dtype)
    _selected_softmax(read(chosen), read(indices, "int64"), weights)
    return weights, Saved(weights)


@kernel(entry=False)
def selected_softmax_row(chosen, ids, weights):
    """A softmax over the entries that have an expert; without one it is 0."""
    live = False
    for j in range(len(ids)):
        live |= ids[j] >= 0
        weights[j] = chosen[j] if ids[j] >= 0 else -np.inf
    if live:
        softmax_row(weights, weights)
    else:
        weights[:] = 0


@kernel
def _selected_softmax(chosen, ids, weights):
    for t in range(len(ids)):
        selected_softmax_row(chosen[t], ids[t], weights[t])


IMPL = Impl(forward, through_softmax)
