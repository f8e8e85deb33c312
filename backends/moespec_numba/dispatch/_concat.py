"""dispatch.concat: NumPy copies as fast as a kernel would."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS


class Saved(NamedTuple):
    width: int              # P
    dtypes: tuple           # of a, of b


def forward(a, b):
    OPS["dispatch.concat"].admit(a, b)
    return np.concatenate([a, b.astype(a.dtype, copy=False)], axis=1), Saved(a.shape[1], (a.dtype, b.dtype))


def backward(saved, dy):
    return dy[:, :saved.width].astype(saved.dtypes[0]), dy[:, saved.width:].astype(saved.dtypes[1])


IMPL = Impl(forward, backward)
