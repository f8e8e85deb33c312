"""gates.lookup."""

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, empty, items, read

KERNELS = Kernels(__file__, "_ids.cu")


def forward(tokens, table):
    dims = admit("gates.lookup", tokens, table)
    ids = empty((dims.T, dims.K), "int64")
    KERNELS("lookup", items(ids.size), read(tokens, "int64"), read(table, "int64"), ids, ids.size, dims.K, dims.V)
    return ids, None


IMPL = Impl(forward)
