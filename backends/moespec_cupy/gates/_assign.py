"""gates.assign: exact, and nothing waits for it; one block, whose work grows as T^2 E at most."""

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, empty, one_block, read, zeros

KERNELS = Kernels(__file__, "_assign.cu")


def forward(scores, indices=None):
    dims = admit("gates.assign", scores, indices)
    if indices is not None:
        return indices.astype("int64"), None
    tokens, experts, room = dims.T, dims.E, dims.T // dims.E
    ids, holder, place = empty((tokens, 1), "int64"), empty(tokens, "int64"), empty(tokens, "int64")
    load, price = zeros(experts, "int64"), zeros(experts, "float64")
    distance, via, done = empty(experts, "float64"), empty(experts, "int64"), empty(experts, "bool")
    KERNELS("assign", one_block(32 * room), read(scores), ids, holder, place, load, price, distance, via, done, tokens, experts, room)
    return ids, None


IMPL = Impl(forward)
