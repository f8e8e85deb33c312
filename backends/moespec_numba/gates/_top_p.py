"""gates.top_p."""

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read
from moespec_numba.gates import _gather
from moespec_numba.gates._gather import take_row
from moespec_numba.gates._order import choose, selection


def forward(scores, indices=None, *, p=None, at_most=None):
    dims = OPS["gates.top_p"].admit(scores, indices, p=p, at_most=at_most)
    ids, given = selection(indices, dims.T, at_most or dims.E)
    weights = empty(ids.shape, scores.dtype)
    _top_p(read(scores), given, scores.dtype.type(1 if p is None else p), ids, weights)
    return (ids, weights), _gather.Saved(read(ids), dims.E)


@kernel
def _top_p(scores, given, p, ids, weights):
    room = np.empty(ids.shape[1], scores.dtype)
    for t in range(len(ids)):
        if not given:
            choose(scores[t], ids[t], room)
            _cut(scores[t], p, ids[t])
        take_row(scores[t], ids[t], 0, weights[t])


@kernel(entry=False)
def _cut(scores, p, ids):
    """Take off what comes when the sum before it has reached p; one with NaN never does."""
    before = scores.dtype.type(0)
    for j in range(len(ids)):
        score = scores[ids[j]]
        if before >= p:
            ids[j] = -1
        before += score


IMPL = Impl(forward, _gather.backward)
