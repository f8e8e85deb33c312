"""gates.limit_ids."""

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read
from moespec_numba.gates._best_tokens import under_mask


def forward(indices, weights, *, experts):
    OPS["gates.limit_ids"].admit(indices, weights, experts=experts)
    kept, out = empty(indices.shape, "int64"), empty(weights.shape, weights.dtype)
    _limit(read(indices, "int64"), experts, kept)
    under_mask(read(weights), read(kept), out)
    return (kept, out), read(kept)


def backward(kept, dkept_weights):
    dweights = empty(kept.shape, dkept_weights.dtype)
    under_mask(read(dkept_weights), kept, dweights)
    return dweights


@kernel
def _limit(ids, experts, kept):
    for t in range(len(ids)):
        for j in range(ids.shape[1]):
            kept[t, j] = ids[t, j] if ids[t, j] < experts else -1


IMPL = Impl(forward, backward)
