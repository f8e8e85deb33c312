"""gates.topk."""

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, empty, read, rows

KERNELS = Kernels(__file__, "_topk.cu")


def forward(scores, indices=None, *, k=None):
    dims = admit("gates.topk", scores, indices, k=k)
    if indices is not None:
        return indices.astype("int64"), None
    ids = empty((dims.T, k), "int64")
    KERNELS("topk", rows(dims.T), read(scores), ids, dims.T, dims.E, k)
    return ids, None


IMPL = Impl(forward)
