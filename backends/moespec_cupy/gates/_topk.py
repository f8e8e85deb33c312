"""gates.topk."""

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, empty, read, rows

KERNELS = Kernels(__file__, "_topk.cu")


def forward(scores, indices=None, *, k=None):
    admit("gates.topk", scores, indices, k=k)
    return best_of_rows(scores, k) if indices is None else indices.astype("int64"), None


def best_of_rows(scores, k):
    """[T, k]: the ids of the best of every row, in the normative order."""
    (tokens, experts), ids = scores.shape, empty((len(scores), k), "int64")
    KERNELS("topk", rows(tokens), read(scores), ids, tokens, experts, k)
    return ids


IMPL = Impl(forward)
