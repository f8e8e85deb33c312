"""dispatch.gather_choices."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import convert, read
from moespec_numba_cuda.dispatch._take import add_rows, take_rows


def forward(rows, row):
    dims = admit("dispatch.gather_choices", rows, row)
    return convert(take_rows(read(rows), row), rows.dtype), (row, dims.N, rows.dtype)


def backward(saved, doutputs):
    row, count, dtype = saved
    return convert(add_rows(read(doutputs).reshape(row.size, doutputs.shape[2]), row, count), dtype)


IMPL = Impl(forward, backward)
