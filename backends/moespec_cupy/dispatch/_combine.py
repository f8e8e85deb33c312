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
    admit("dispatch.combine", rows, weights, row)
    saved = Saved(read(rows), read(weights), read(row, "int64"))
    return combine_rows(*saved), saved


def backward(saved, dy):
    return combine_backward(*saved, read(dy))


def combine_rows(rows, weights, row):
    """[T, D]: every token adds up its rows, in ascending order of choice; without weights they are 1."""
    (count, width), (tokens, choices) = rows.shape, row.shape
    y = empty((tokens, width), rows.dtype)
    KERNELS("combine", per_row(tokens), rows, weights, row, y, tokens, choices, width, count)
    return y


def combine_backward(rows, weights, row, dy):
    """The gradients of rows and weights."""
    (count, width), choices = rows.shape, row.shape[1]
    drows, dweights = empty(rows.shape, rows.dtype), empty(weights.shape, weights.dtype)
    KERNELS("combine_to_rows", per_row(count), weights, dy, row, *named_by(row, count), drows, choices, width, count)
    KERNELS("combine_to_weights", per_row(row.size), rows, dy, row, dweights, row.size, choices, width, count)
    return drows, dweights


IMPL = Impl(forward, backward)
