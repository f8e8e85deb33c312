"""Sums over tokens: the gradient of what all tokens share, and the means of the losses."""

from moespec_cupy._kernel import Kernels, empty, items

KERNELS = Kernels(__file__, "_column_sums.cu")
EACH = 64                     # rows of a chunk, or more
CHUNKS = 1024


def column_sums(x, dtype, mask=None):
    """[D]: the sum over the rows of x[T, D], those where mask[T] is True; rounded once to `dtype`."""
    tokens, width = x.shape
    chunks = max(1, min(CHUNKS, tokens // EACH))
    partial, sums = empty((chunks, width), "float64"), empty(width, dtype)
    KERNELS("sum_rows", items(chunks * width), x, mask, partial, tokens, width, chunks)
    KERNELS("sum_partial", items(width), partial, sums, width, chunks)
    return sums
