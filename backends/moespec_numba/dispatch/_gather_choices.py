"""dispatch.gather_choices."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS
from moespec_numba.dispatch._rows import add_rows, take_rows


class Saved(NamedTuple):
    row: np.ndarray         # T K
    rows: int
    dtype: np.dtype


def forward(rows, row):
    dims = OPS["dispatch.gather_choices"].admit(rows, row)
    return take_rows(rows, row), Saved(row, dims.N, rows.dtype)


def backward(saved, doutputs):
    return add_rows(doutputs.reshape(saved.row.size, doutputs.shape[2]), saved.row, saved.rows, saved.dtype)


IMPL = Impl(forward, backward)
