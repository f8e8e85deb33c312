"""gates.topk."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import convert, empty, read
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda.gates._order import choose


def forward(scores, indices=None, *, k=None):
    admit("gates.topk", scores, indices, k=k)
    if indices is not None:
        return convert(read(indices), "int64"), None
    x = read(scores)
    ids, best = empty((len(x), k), "int64"), empty((len(x), k), x.dtype)
    _topk(items(len(x)), x, ids, best)
    return ids, None


@kernel("T2 i2 T2")
def _topk(scores, ids, best):
    for t in range(cuda.grid(1), scores.shape[0], cuda.gridsize(1)):
        choose(scores[t], ids[t], best[t])


IMPL = Impl(forward)
