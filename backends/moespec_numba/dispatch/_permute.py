"""dispatch.permute."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS
from moespec_numba.dispatch._rows import add_rows, take_rows


class Saved(NamedTuple):
    token: np.ndarray       # N
    tokens: int
    dtype: np.dtype


def forward(x, token):
    dims = OPS["dispatch.permute"].admit(x, token)
    return take_rows(x, token), Saved(token, dims.T, x.dtype)


def backward(saved, drows):
    return add_rows(drows, saved.token, saved.tokens, saved.dtype)


IMPL = Impl(forward, backward)
