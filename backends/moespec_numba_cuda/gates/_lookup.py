"""gates.lookup."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import empty, read
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda._rows import legal


def forward(tokens, table):
    dims = admit("gates.lookup", tokens, table)
    ids = empty((dims.T, dims.K), "int64")
    _lookup(items(ids.size), read(tokens, "int64"), read(table, "int64"), ids)
    return ids, None


@kernel("i1 i2 i2")
def _lookup(tokens, table, ids):
    choices = ids.shape[1]
    for i in range(cuda.grid(1), len(ids) * choices, cuda.gridsize(1)):
        t, j = i // choices, i % choices
        token = legal(tokens[t], len(table))
        ids[t, j] = table[token, j] if token >= 0 else -1


IMPL = Impl(forward)
