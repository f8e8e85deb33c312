"""Rows and the entries (t, j) that name them."""

from typing import Any, NamedTuple

from moespec_cupy._kernel import Kernels, full, items, zeros

KERNELS = Kernels(__file__, "_rows.cu")
NEVER = 2**63 - 1


class Named(NamedTuple):
    """For every row, the first flat entry t * K + j that names it, and how many do; see rows.cuh for how kernels walk them."""

    first: Any
    times: Any


def named_by(row, count) -> Named:
    """`row` [T, K] int64 of 0 .. count-1; whatever else stands there names nothing."""
    found = Named(full(count, NEVER, "int64"), zeros(count, "int64"))
    KERNELS("find_rows", items(row.size), row, found.first, found.times, row.size, count)
    return found
