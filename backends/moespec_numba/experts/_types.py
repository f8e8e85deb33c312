"""What arrays compute in: the widest dtype among them; results return to the dtype of what they belong to."""

from functools import cache

import numpy as np

from moespec_numba._kernel import empty, read


def common(*arrays):
    """The arrays in one dtype, copied only where theirs is narrower; None stays None."""
    dtype = np.result_type(*{a.dtype for a in arrays if a is not None})
    return [read(a, dtype) for a in arrays]


def like(array, result):
    """`result` in the dtype of the input `array`; None where there is none."""
    return None if array is None else result.astype(array.dtype, copy=False)


@cache
def absent(dimensions, dtype):
    """What a kernel is given in place of an array that is not there."""
    return read(empty((0,) * dimensions, dtype))
