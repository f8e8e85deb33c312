"""gates.top_p."""

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, empty, read, rows
from moespec_cupy.gates._gather import Saved, backward, gather

KERNELS = Kernels(__file__, "_top_p.cu")


def forward(scores, indices=None, *, p=None, at_most=None):
    dims, x = admit("gates.top_p", scores, indices, p=p, at_most=at_most), read(scores)
    if indices is not None:
        weights, saved = gather(x, indices.astype("int64"))
        return (saved.indices, weights), saved
    shape = dims.T, at_most or dims.E
    ids, weights = empty(shape, "int64"), empty(shape, x.dtype)
    KERNELS("top_p", rows(dims.T), x, p, ids, weights, dims.T, dims.E, shape[1])
    return (ids, weights), Saved(ids, dims.E)


IMPL = Impl(forward, backward)
