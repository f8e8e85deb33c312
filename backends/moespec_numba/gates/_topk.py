"""gates.topk."""

import numpy as np
from numba import prange

from moespec.program import Impl
from moespec_numba._kernel import BLOCK, OPS, empty, kernel, read
from moespec_numba.gates._order import choose


def forward(scores, indices=None, *, k=None):
    OPS["gates.topk"].admit(scores, indices, k=k)
    if indices is not None:
        return indices.astype("int64"), None
    ids = empty((len(scores), k), "int64")
    _topk(read(scores), ids)
    return ids, None


@kernel(parallel=True)
def _topk(scores, ids):
    tokens, k = ids.shape
    for block in prange((tokens + BLOCK - 1) // BLOCK):
        best = np.empty(k, scores.dtype)
        for t in range(block * BLOCK, min(tokens, (block + 1) * BLOCK)):
            choose(scores[t], ids[t], best)


IMPL = Impl(forward)
