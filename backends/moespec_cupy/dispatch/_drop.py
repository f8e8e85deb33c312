"""dispatch.drop."""

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import empty, items, read
from moespec_cupy.dispatch._serving import KERNELS, places, sequence


def forward(indices, priority=None, noise=None, group=None, *, experts, capacity, order="choice"):
    admit("dispatch.drop", indices, priority, noise, group, experts=experts, capacity=capacity, order=order)
    if capacity is None:
        return indices.astype("int64"), None
    ids, kept = read(indices, "int64"), empty(indices.shape, "int64")
    place = places(ids, sequence(ids, order, priority, noise), experts, capacity, group)
    KERNELS("keep_placed", items(ids.size), ids, place, kept, ids.size)
    return kept, None


IMPL = Impl(forward)
