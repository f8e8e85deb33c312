"""gates.of_kind."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import empty, read
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel


def forward(indices, kinds, *, other=False):
    admit("gates.of_kind", indices, kinds, other=other)
    kept = empty(indices.shape, "int64")
    _of_kind(items(kept.size), read(indices, "int64"), read(kinds, "int64"), other, kept)
    return kept, None


@kernel("i2 i1 b i2")
def _of_kind(ids, kinds, other, kept):
    choices = ids.shape[1]
    for i in range(cuda.grid(1), len(ids) * choices, cuda.gridsize(1)):
        t, j = i // choices, i % choices
        kept[t, j] = ids[t, j] if (kinds[t] != 0) == other else -1


IMPL = Impl(forward)
