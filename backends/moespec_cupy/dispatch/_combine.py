"""dispatch.combine."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, empty, read
from moespec_cupy._kernel import rows as per_row
from moespec_cupy.dispatch._counting_sort import counting_sort

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
    rows, weights, row = saved
    found, dy = counting_sort(row, len(rows)), read(dy)
    return combine_to_rows(weights, dy, found.order, found.offsets, len(rows), row.shape[1]), combine_to_weights(rows, weights, row, dy)


def combine_rows(rows, weights, row):
    """[T, D]: every token adds up its rows, in ascending order of choice; without weights they are 1."""
    (count, width), (tokens, choices) = rows.shape, row.shape
    y = empty((tokens, width), rows.dtype)
    KERNELS("combine", per_row(tokens), rows, weights, row, y, tokens, choices, width, count)
    return y


def combine_to_rows(weights, dy, order, offsets, count, choices):
    """[count, D]: row n adds up what its entries, order[offsets[n]] .., had to do with: entry i weights[i] dy[i // choices].

    Without weights they are 1, without offsets a row has one entry at most, order[n].
    """
    drows = empty((count, dy.shape[1]), dy.dtype)
    KERNELS("combine_to_rows", per_row(count), weights, dy, order, offsets, drows, choices, dy.shape[1], count)
    return drows


def combine_to_weights(rows, weights, row, dy):
    """[T, K]: the inner products of a token's cotangent with its rows, in the dtype of `weights`."""
    (count, width), dweights = rows.shape, empty(row.shape, weights.dtype)
    KERNELS("combine_to_weights", per_row(row.size), rows, dy, row, dweights, row.size, row.shape[1], width, count)
    return dweights


IMPL = Impl(forward, backward)
