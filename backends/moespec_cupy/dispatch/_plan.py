"""dispatch.plan."""

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy.dispatch._counting_sort import counting_sort


def forward(indices, *, experts, rows=None):
    admit("dispatch.plan", indices, experts=experts, rows=rows)
    found = counting_sort(indices, experts, indices.size if rows is None else min(indices.size, rows))
    return (token_of(found, indices), found.place, found.offsets), None


def token_of(plan, indices):
    """int64[N]: the token of every row, -1 in the dead tail."""
    return plan.order // max(indices.shape[1], 1)


IMPL = Impl(forward)
