"""dispatch.combine."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, empty, read
from moespec_cupy._kernel import rows as per_row
from moespec_cupy.dispatch._rows import named_by

KERNELS = Kernels(__file__, "_combine.cu")


class Saved(NamedTuple):
    rows: Any               # N D
    weights: Any            # T K
    row: Any                # T K


def forward(rows, weights, row):
    dims = admit("dispatch.combine", rows, weights, row)
    saved, y = Saved(read(rows), read(weights), read(row, "int64")), empty((dims.T, dims.D), rows.dtype)
    KERNELS("combine", per_row(dims.T), *saved, y, dims.T, dims.K, dims.D, dims.N)
    return y, saved


def backward(saved, dy):
    dy, (count, width), choices = read(dy), saved.rows.shape, saved.row.shape[1]
    drows, dweights = empty(saved.rows.shape, saved.rows.dtype), empty(saved.weights.shape, saved.weights.dtype)
    KERNELS("combine_to_rows", per_row(count), saved.weights, dy, saved.row, *named_by(saved.row, count), drows, choices, width, count)
    KERNELS("combine_to_weights", per_row(saved.row.size), saved.rows, dy, saved.row, dweights, saved.row.size, choices, width, count)
    return drows, dweights


IMPL = Impl(forward, backward)
