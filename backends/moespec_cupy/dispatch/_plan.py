"""dispatch.plan."""

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy.dispatch._counting_sort import counting_sort


def forward(indices, *, experts, rows=None):
    admit("dispatch.plan", indices, experts=experts, rows=rows)
    return tuple(counting_sort(indices, experts, indices.size if rows is None else min(indices.size, rows))), None


IMPL = Impl(forward)
