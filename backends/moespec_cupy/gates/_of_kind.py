"""gates.of_kind."""

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, empty, items, read

KERNELS = Kernels(__file__, "_ids.cu")


def forward(indices, kinds, *, other=False):
    dims = admit("gates.of_kind", indices, kinds, other=other)
    kept = empty(indices.shape, "int64")
    KERNELS("of_kind", items(kept.size), read(indices, "int64"), read(kinds, "int64"), kept, kept.size, dims.K, other)
    return kept, None


IMPL = Impl(forward)
