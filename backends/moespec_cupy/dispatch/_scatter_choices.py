"""dispatch.scatter_choices."""

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy.dispatch._take import add_rows, take_rows


def forward(values, row, *, rows):
    admit("dispatch.scatter_choices", values, row, rows=rows)
    return add_rows(values, row, rows), row


def backward(row, dout):
    return take_rows(dout, row)


IMPL = Impl(forward, backward)
