"""The best tokens of every expert, and what lies under such a mask."""

from moespec_cupy._kernel import Kernels, empty, full, items, read
from moespec_cupy.gates._by_group import by_group

KERNELS = Kernels(__file__, "_best_tokens.cu")


def best_tokens(scores, most, group=None):
    """int64[T, E]: column i holds i at the `most` best tokens of every group, ties to the earlier token, and -1 elsewhere."""
    (tokens, experts), ids = scores.shape, full(scores.shape, -1, "int64")
    groups = by_group(group, tokens)
    KERNELS("best_tokens", groups.blocks(experts, tokens), read(scores), *groups, most, ids, tokens, experts)
    return ids


def under_mask(values, ids):
    """The values where `ids` is at least 0, and 0 elsewhere."""
    masked = empty(values.shape, values.dtype)
    KERNELS("under_mask", items(ids.size), read(values), ids, masked, ids.size)
    return masked
