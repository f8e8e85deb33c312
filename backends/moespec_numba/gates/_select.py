"""gates.select."""

import numpy as np
from numba import prange

from moespec.program import Impl
from moespec_numba._kernel import BLOCK, OPS, empty, kernel, read, zeros
from moespec_numba.gates._order import choose


def forward(scores, bias=None, indices=None, *, k=None, groups=1, keep=1, reduce="top2sum", base="biased", fill=-np.inf):
    dims = OPS["gates.select"].admit(scores, bias, indices, k=k, groups=groups, keep=keep, reduce=reduce, base=base, fill=fill)
    if indices is not None:
        return indices.astype("int64"), None
    dtype, ids = scores.dtype if bias is None else np.result_type(scores, bias), empty((dims.T, k), "int64")
    added = zeros(dims.E, dtype) if bias is None else bias
    _select(read(scores, dtype), read(added, dtype), groups, keep, 2 if reduce == "top2sum" else 1, base == "raw", dtype.type(fill), ids)
    return ids, None


@kernel(parallel=True)
def _select(scores, bias, groups, keep, most, raw, fill, ids):
    (tokens, k), experts = ids.shape, len(bias)
    for block in prange((tokens + BLOCK - 1) // BLOCK):
        biased, judged = np.empty(experts, scores.dtype), np.empty(groups, scores.dtype)
        best, kept = np.empty(max(k, keep, 2), scores.dtype), np.empty(keep, np.int64)
        for t in range(block * BLOCK, min(tokens, (block + 1) * BLOCK)):
            for e in range(experts):
                biased[e] = scores[t, e] + bias[e]
            if keep < groups:
                _judge(scores[t] if raw else biased, most, best, judged)
                choose(judged, kept, best)
                _leave_out(biased, kept, groups, fill)
            choose(biased, ids[t], best)


@kernel(entry=False)
def _judge(scores, most, best, judged):
    """The sum of the two largest scores of every group, or the largest."""
    size, two = len(scores) // len(judged), np.empty(most, np.int64)
    for g in range(len(judged)):
        choose(scores[g * size:(g + 1) * size], two, best)
        judged[g] = best[0] + best[1] if most == 2 else best[0]


@kernel(entry=False)
def _leave_out(biased, kept, groups, fill):
    """Every expert of a group that is not kept gets `fill`."""
    size = len(biased) // groups
    for g in range(groups):
        out = True
        for i in range(len(kept)):
            out &= kept[i] != g
        if out:
            for e in range(g * size, (g + 1) * size):
                biased[e] = fill


IMPL = Impl(forward)
