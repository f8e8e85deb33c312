"""dispatch.scatter_choices."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import convert, read
from moespec_numba_cuda.dispatch._take import add_rows, take_rows


def forward(values, row, *, rows):
    dims = admit("dispatch.scatter_choices", values, row, rows=rows)
    return convert(add_rows(read(values).reshape(row.size, dims.F), row, rows), values.dtype), (row, values.dtype)


def backward(saved, dout):
    row, dtype = saved
    return convert(take_rows(read(dout), row), dtype)


IMPL = Impl(forward, backward)
