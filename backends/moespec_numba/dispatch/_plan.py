"""dispatch.plan."""

from moespec.program import Impl
from moespec_numba._kernel import OPS
from moespec_numba.dispatch._counting_sort import counting_sort


def forward(indices, *, experts, rows=None):
    OPS["dispatch.plan"].admit(indices, experts=experts, rows=rows)
    return tuple(counting_sort(indices, experts, indices.size if rows is None else min(indices.size, rows))), None


IMPL = Impl(forward)
