"""Memory that starts on a cache line."""

import numpy as np
import pytest

from moespec.memory import LARGE, LINE, aligned
from moespec.models import mixtral


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool", "float16"])
@pytest.mark.parametrize("shape", [(0,), (3, 5), (LARGE + 1,), (7, 300, 11)])
def test_shape_dtype_and_first_address(shape, dtype):
    array = aligned(shape, dtype)
    assert (array.shape, array.dtype) == (shape, np.dtype(dtype))
    assert array.flags.c_contiguous
    assert array.nbytes < LARGE or array.ctypes.data % LINE == 0


def test_zeros_are_zeros_to_the_last():
    assert not aligned((257, 301), "float32", np.zeros).any()


def test_an_integer_is_a_shape():
    assert aligned(5000, "float64").shape == (5000,)


def test_parameters_begin_on_cache_lines():
    params = mixtral(4, 64, 2).init(128, rng=0, dtype="float32")
    assert all(w.ctypes.data % LINE == 0 for w in params.values() if w.nbytes >= LARGE)
    assert np.array_equal(params["experts.w_up"], mixtral(4, 64, 2).init(128, rng=0, dtype="float64")["experts.w_up"].astype("float32"))
