"""gates.limit_ids."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import convert, empty, flat, like, read
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda._rows import legal
from moespec_numba_cuda.gates._masked import under_mask


def forward(indices, weights, *, experts):
    admit("gates.limit_ids", indices, weights, experts=experts)
    kept = empty(indices.shape, "int64")
    _limit(items(kept.size), flat(read(indices, "int64")), experts, flat(kept))
    return (kept, like(weights, under_mask(read(weights), kept))), (kept, weights.dtype)


def backward(saved, dkept_weights):
    kept, dtype = saved
    return convert(under_mask(read(dkept_weights), kept), dtype)


@kernel("i1 i i1")
def _limit(ids, experts, kept):
    for i in range(cuda.grid(1), len(ids), cuda.gridsize(1)):
        kept[i] = legal(ids[i], experts)


IMPL = Impl(forward, backward)
