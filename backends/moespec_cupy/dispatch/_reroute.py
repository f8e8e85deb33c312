"""dispatch.reroute."""

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Grid, Kernels, empty, full, read, zeros
from moespec_cupy.dispatch._counting_sort import resort
from moespec_cupy.dispatch._serving import ANY

KERNELS = Kernels(__file__, "_reroute.cu")
GROUPS = 1024                 # served at the same time


def forward(indices, scores, group=None, *, capacity):
    dims = admit("dispatch.reroute", indices, scores, group, capacity=capacity)
    if capacity is None:
        return indices.astype("int64"), None
    ids, kept = read(indices, "int64"), full(indices.shape, -1, "int64")
    own = read(group, "int64")
    order = None if own is None else resort(own, None, ANY)
    grid = Grid(min(dims.T, 1 if own is None else GROUPS), 256)
    asking, asked, room = empty(ids.shape, "int64"), zeros((dims.T, dims.E), "bool"), empty((grid.blocks, dims.E), "int64")
    KERNELS("reroute", grid, ids, read(scores), own, order, asking, kept, asked, room, dims.T, dims.K, dims.E, capacity)
    return kept, None


IMPL = Impl(forward)
