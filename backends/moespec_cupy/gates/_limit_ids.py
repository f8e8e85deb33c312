"""gates.limit_ids."""

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, empty, items, read
from moespec_cupy.gates._where_kept import where_kept

KERNELS = Kernels(__file__, "_ids.cu")


def forward(indices, weights, *, experts):
    admit("gates.limit_ids", indices, weights, experts=experts)
    kept = empty(indices.shape, "int64")
    KERNELS("limit_ids", items(kept.size), read(indices, "int64"), kept, kept.size, experts)
    return (kept, where_kept(weights, kept)), kept


def backward(kept, dkept_weights):
    return where_kept(dkept_weights, kept)


IMPL = Impl(forward, backward)
