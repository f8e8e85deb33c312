"""gates.of_kind."""

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read


def forward(indices, kinds, *, other=False):
    OPS["gates.of_kind"].admit(indices, kinds, other=other)
    kept = empty(indices.shape, "int64")
    _keep(read(indices, "int64"), read(kinds, "int64"), bool(other), kept)
    return kept, None


@kernel
def _keep(ids, kinds, other, kept):
    for t in range(len(ids)):
        for j in range(ids.shape[1]):
            kept[t, j] = ids[t, j] if (kinds[t] != 0) == other else -1


IMPL = Impl(forward)
