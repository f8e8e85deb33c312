"""gates.lookup."""

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read


def forward(tokens, table):
    dims = OPS["gates.lookup"].admit(tokens, table)
    ids = empty((dims.T, dims.K), "int64")
    _lookup(read(tokens, "int64"), read(table, "int64"), ids)
    return ids, None


@kernel
def _lookup(tokens, table, ids):
    for t in range(len(tokens)):
        for j in range(ids.shape[1]):
            ids[t, j] = table[tokens[t], j] if tokens[t] >= 0 else -1


IMPL = Impl(forward)
