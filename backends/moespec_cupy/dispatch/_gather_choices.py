"""dispatch.gather_choices."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy.dispatch._take import add_rows, take_rows


class Saved(NamedTuple):
    row: Any                # T K
    rows: int


def forward(rows, row):
    dims = admit("dispatch.gather_choices", rows, row)
    return take_rows(rows, row), Saved(row, dims.N)


def backward(saved, doutputs):
    return add_rows(doutputs, *saved)


IMPL = Impl(forward, backward)
