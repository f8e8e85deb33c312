"""dispatch.weigh_rows."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, empty, read
from moespec_cupy._kernel import rows as per_row
from moespec_cupy.dispatch._counting_sort import counting_sort

KERNELS = Kernels(__file__, "_tokens.cu")


class Saved(NamedTuple):
    rows: Any               # N D
    weights: Any            # T K
    row: Any                # T K
    order: Any              # T K   the assignments by row
    offsets: Any            # N+1


def forward(rows, weights, row):
    dims = admit("dispatch.weigh_rows", rows, weights, row)
    found = counting_sort(row, dims.N)
    saved = Saved(read(rows), read(weights), read(row, "int64"), found.order, found.offsets)
    return _weighed(saved.rows, saved), saved


def backward(saved, dout):
    d, dweights = read(dout), empty(saved.row.shape, saved.weights.dtype)
    KERNELS("inner_rows", per_row(saved.row.size), saved.rows, d, saved.row, dweights, saved.row.size, d.shape[1], len(d))
    return _weighed(d, saved), dweights


def _weighed(rows, saved):
    out = empty(rows.shape, rows.dtype)
    KERNELS("weigh_rows", per_row(len(rows)), rows, saved.weights, saved.order, saved.offsets, out, *rows.shape)
    return out


IMPL = Impl(forward, backward)
