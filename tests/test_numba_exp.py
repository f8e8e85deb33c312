"""The Numba backend's own exp and log1p, against NumPy's in extended precision."""

import numpy as np
import pytest

numba = pytest.importorskip("numba", reason="the extra `numba` is not installed")
from moespec_numba._exp import exp_down, log1p_unit  # noqa: E402


@numba.njit(error_model="numpy")
def exp_all(x, y):
    for i in range(len(x)):
        y[i] = exp_down(x[i])


@numba.njit(error_model="numpy")
def log1p_all(x, y):
    for i in range(len(x)):
        y[i] = log1p_unit(x[i])


def units(got, want, dtype):
    return np.abs(got.astype(np.longdouble) - want) / want / (np.finfo(dtype).eps / 2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exp(dtype):
    x = -np.concatenate([np.geomspace(1e-30, 745, 50_000), np.linspace(0, 90, 50_000)]).astype(dtype)
    y, want = np.empty_like(x), np.exp(x.astype(np.longdouble))
    exp_all(x, y)
    normal = want >= np.finfo(dtype).tiny * (1 + 1e-3)
    assert units(y[normal], want[normal], dtype).max() <= 2
    assert np.all(np.abs(y - want)[~normal] <= np.finfo(dtype).tiny * (1 + 2e-3))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_log1p(dtype):
    x = np.concatenate([np.geomspace(1e-30, 1, 50_000), np.linspace(1e-3, 1, 50_000)]).astype(dtype)
    y = np.empty_like(x)
    log1p_all(x, y)
    assert units(y, np.log1p(x.astype(np.longdouble)), dtype).max() <= 3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_special_values(dtype):
    x, y = np.array([0.0, -0.0, -np.inf, np.nan], dtype), np.empty(4, dtype)
    exp_all(x, y)
    assert np.array_equal(y, np.array([1, 1, 0, np.nan], dtype), equal_nan=True)
    log1p_all(np.array([0.0, 1.0, np.nan, 0.0], dtype), y)
    assert y[0] == 0
    assert np.isnan(y[2])
