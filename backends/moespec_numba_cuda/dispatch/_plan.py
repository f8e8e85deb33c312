"""dispatch.plan."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import empty
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda.dispatch._counting_sort import counting_sort


def forward(indices, *, experts, rows=None):
    admit("dispatch.plan", indices, experts=experts, rows=rows)
    found = counting_sort(indices, experts, indices.size if rows is None else min(indices.size, rows))
    token = empty(len(found.order), "int64")
    _token(items(len(token)), found.order, indices.shape[1], token)
    return (token, found.place, found.offsets), None


@kernel("i1 i i1")
def _token(order, choices, token):
    """The token of every row, -1 in the dead tail."""
    for n in range(cuda.grid(1), len(order), cuda.gridsize(1)):
        token[n] = order[n] // choices if order[n] >= 0 else -1


IMPL = Impl(forward)
