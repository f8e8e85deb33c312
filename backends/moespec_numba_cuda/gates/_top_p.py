"""gates.top_p."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import empty, like, read
from moespec_numba_cuda._device import cuda, device
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda.gates import _gather
from moespec_numba_cuda.gates._gather import take_row
from moespec_numba_cuda.gates._order import select_row, selection


def forward(scores, indices=None, *, p=None, at_most=None):
    dims = admit("gates.top_p", scores, indices, p=p, at_most=at_most)
    x, (given, ids) = read(scores), selection(indices, dims.T, at_most or dims.E)
    weights = empty(ids.shape, x.dtype)
    _top_p(items(len(x)), x, given, 1.0 if p is None else p, ids, weights)
    return (ids, like(scores, weights)), (ids, dims.E)


@device
def _cut(scores, p, ids):
    """Take off what comes when the sum before it has reached p; one with NaN never does."""
    before = scores.dtype.type(0)
    for j in range(len(ids)):
        score = scores[ids[j]]
        if before >= p:
            ids[j] = -1
        before += score


@kernel("T2 i2 T i2 T2")
def _top_p(scores, given, p, ids, weights):
    for t in range(cuda.grid(1), len(scores), cuda.gridsize(1)):
        select_row(scores[t], given, t, ids[t], weights[t])
        if len(given) == 0:
            _cut(scores[t], p, ids[t])
        take_row(scores[t], ids[t], scores.dtype.type(0), weights[t])


IMPL = Impl(forward, _gather.backward)
