"""What a routing keeps."""

from moespec_cupy._kernel import Kernels, empty, items, read

KERNELS = Kernels(__file__, "_ids.cu")


def where_kept(values, ids):
    """The values of the choices that are experts, 0 where the id is -1."""
    kept = empty(values.shape, values.dtype)
    KERNELS("where_kept", items(ids.size), read(values), ids, kept, ids.size)
    return kept
