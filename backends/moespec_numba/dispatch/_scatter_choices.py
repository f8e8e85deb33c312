"""dispatch.scatter_choices."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS
from moespec_numba.dispatch._rows import add_rows, take_rows


class Saved(NamedTuple):
    row: np.ndarray         # T K
    dtype: np.dtype


def forward(values, row, *, rows):
    OPS["dispatch.scatter_choices"].admit(values, row, rows=rows)
    return add_rows(values.reshape(row.size, values.shape[2]), row, rows, values.dtype), Saved(row, values.dtype)


def backward(saved, dout):
    return take_rows(dout, saved.row).astype(saved.dtype, copy=False)


IMPL = Impl(forward, backward)
