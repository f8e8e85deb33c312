"""gates.limit_ids."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import convert, empty, flat, like, read
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda._rows import legal


def forward(indices, weights, *, experts):
    admit("gates.limit_ids", indices, weights, experts=experts)
    kept = empty(indices.shape, "int64")
    _limit(items(kept.size), flat(read(indices, "int64")), experts, flat(kept))
    return (kept, like(weights, _where_kept(kept, read(weights)))), (kept, weights.dtype)


def backward(saved, dkept_weights):
    kept, dtype = saved
    return convert(_where_kept(kept, read(dkept_weights)), dtype)


def _where_kept(kept, values):
    out = empty(values.shape, values.dtype)
    _only(items(values.size), flat(kept), flat(values), flat(out))
    return out


@kernel("i1 i i1")
def _limit(ids, experts, kept):
    for i in range(cuda.grid(1), len(ids), cuda.gridsize(1)):
        kept[i] = legal(ids[i], experts)


@kernel("i1 T1 T1")
def _only(kept, values, out):
    for i in range(cuda.grid(1), len(kept), cuda.gridsize(1)):
        out[i] = values[i] if kept[i] >= 0 else 0


IMPL = Impl(forward, backward)
