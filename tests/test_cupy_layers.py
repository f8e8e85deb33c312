"""Whole layers on the CuPy backend without a GPU: nothing waits, results repeat; and indices larger than an int."""

import ctypes
import shutil

import numpy as np
import pytest

import moespec
from moespec.models import deepseekmoe2024, expert_choice2022, gshard2020, mixtral, soft_moe2023, switch2021
from moespec_cupy import _launcher
from moespec_cupy._kernel import Grid, Kernels
from moespec_cupy._source import ROOT
from moespec_cupy.dispatch._combine import combine_rows, combine_to_weights
from moespec_cupy.dispatch._take import take_rows
from moespec_cupy.experts._products import Groups, sums, tn

if shutil.which("g++") is None:
    pytest.skip("g++ is not installed", allow_module_level=True)
from cupy_emulated import BACKEND, DeviceArray

LAYERS = {"mixtral": mixtral(4, 8, 2), "deepseek": deepseekmoe2024(n=4, width=8, k=2), "switch": switch2021(n=4, width=8),
          "gshard": gshard2020(n=4, width=8), "expert choice": expert_choice2022(n=4, width=8),
          "soft": soft_moe2023(n=4, width=8)}


def step(spec, dtype="float32"):
    rng = np.random.default_rng(0)
    params = {name: BACKEND.from_numpy(a).view(DeviceArray) for name, a in spec.init(16, rng=0, dtype=dtype).items()}
    x, dy = (BACKEND.from_numpy(rng.standard_normal((24, 16)).astype(dtype)).view(DeviceArray) for _ in range(2))
    out, saved = moespec.forward(spec, params, x, backend=BACKEND)
    grads = moespec.backward(saved, dy)
    return [out.y, grads.x, *grads.params.values()]


@pytest.fixture
def looks(monkeypatch):
    """What was brought to the host: on a GPU it would be waited for."""
    seen = []

    def to_numpy(self, array):
        seen.append(array)
        return np.asarray(array).view(np.ndarray)

    monkeypatch.setattr(type(_launcher.get()), "to_numpy", to_numpy)
    return seen


@pytest.mark.parametrize("name", LAYERS)
def test_nothing_waits_for_the_device(name, looks):
    step(LAYERS[name])
    assert not looks


@pytest.mark.parametrize("way", ["loop", "nvmath"])
def test_products_by_cublas_wait_once_a_forward(way, looks, monkeypatch):
    monkeypatch.setattr(BACKEND, "gemm", way)
    step(LAYERS["mixtral"])
    assert [a.shape for a in looks] == [(5,)]                      # the offsets


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_stream_that_is_captured_is_spared_cublas(dtype, monkeypatch):
    wanted = step(LAYERS["mixtral"], dtype)
    monkeypatch.setattr(type(_launcher.get()), "capturing", lambda self: True)
    monkeypatch.setattr(type(_launcher.get()), "matmul", None)
    for a, b in zip(step(LAYERS["mixtral"], dtype), wanted, strict=True):
        a, b = (BACKEND.to_numpy(array).astype("float64") for array in (a, b))
        assert np.abs(a - b).max() <= (1e-5 if dtype == "float32" else 3e-2) * np.abs(b).max()


def test_two_runs_are_equal_bit_for_bit():
    first, second = ([BACKEND.to_numpy(a).tobytes() for a in step(LAYERS["deepseek"], "bfloat16")] for _ in range(2))
    assert first == second


# ---- indices beyond 2^31 -----------------------------------------------------------------------------------------------

FAR = (1 << 31) + 5


def far(values):
    """`values` as the last rows of an array with FAR more before them, which nobody may touch: there is no memory behind them."""
    before = FAR * values.strides[0]
    memory = (ctypes.c_char * (before + values.nbytes)).from_address(values.ctypes.data - before)
    return np.frombuffer(memory, values.dtype).reshape(FAR + len(values), *values.shape[1:]).view(DeviceArray)


@pytest.fixture
def values():
    return np.random.default_rng(0).integers(-4, 5, (6, 3)).astype("float32")


def device(*numbers):
    return np.array(numbers, np.int64).view(DeviceArray)


def test_rows_far_away_are_gathered_and_combined(values):
    index = device(FAR + 5, -1, FAR, FAR + 2)
    wanted = values[[5, 0, 0, 2]] * np.array([[1], [0], [1], [1]])
    assert np.array_equal(BACKEND.to_numpy(take_rows(far(values), index)), wanted)
    both = combine_rows(far(values), None, index.reshape(2, 2))
    assert np.array_equal(BACKEND.to_numpy(both), wanted.reshape(2, 2, 3).sum(1))
    dy = np.arange(6, dtype="float32").reshape(2, 3).view(DeviceArray)
    products = combine_to_weights(far(values), both, index.reshape(2, 2), dy)
    assert np.array_equal(BACKEND.to_numpy(products), (wanted.reshape(2, 2, 3) * np.arange(6).reshape(2, 1, 3)).sum(2))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_products_of_rows_far_away(values, dtype):
    x, dy = values.astype(dtype), values[::-1].astype(dtype)
    dy = np.ascontiguousarray(dy)
    own = Groups(device(FAR, FAR + 2, FAR + 2, FAR + 6), None)
    found = BACKEND.to_numpy(tn(far(x), far(dy), own)).astype("float64")
    parts = [slice(0, 2), slice(2, 2), slice(2, 6)]
    a, b = x.astype("float64"), dy.astype("float64")
    assert np.array_equal(found, [a[s].T @ b[s] for s in parts])
    bias = np.zeros((3, 3), dtype).view(DeviceArray)
    assert np.array_equal(BACKEND.to_numpy(sums(far(dy), own, bias)).astype("float64"), [b[s].sum(0) for s in parts])


def test_tiles_far_away_find_their_rows(tmp_path):
    text = """#include "experts/grouped.cuh"

KERNEL_ find(const i64 *offsets, const i64 *slots, i64 *found, i64 count, i64 experts, i64 rows) {
    for (i64 i = thread_index(); i < count; i += thread_count()) {
        Rows mine = rows_of(slots[i], offsets, experts, rows);
        found[3 * i] = mine.expert;
        found[3 * i + 1] = mine.first;
        found[3 * i + 2] = mine.stop;
    }
}
KERNEL_ address(const T *x, i64 row, i64 width, i64 *found) {
    Panel p = panel(x, row + 1, width);
    found[0] = p.row(row) - x;
}
""".replace("KERNEL_", "KERNEL")
    (tmp_path / "text.cu").write_text(text)
    (tmp_path / "experts").symlink_to(ROOT / "experts")
    kernels, offsets, tile = Kernels(tmp_path / "x", "text.cu"), [0, FAR, FAR + 100], 64
    slots = [FAR // tile, FAR // tile + 1, FAR // tile + 2]
    found = np.zeros((3, 3), np.int64).view(DeviceArray)
    kernels("find", Grid(1, 32), device(*offsets), device(*slots), found, 3, 2, FAR + 120)
    assert BACKEND.to_numpy(found).tolist() == [[0, FAR // tile * tile, FAR], [1, FAR, FAR + tile], [1, FAR + tile, FAR + 100]]
    at, x = np.zeros(1, np.int64).view(DeviceArray), np.zeros(1, "float32").view(DeviceArray)
    kernels("address", Grid(1, 32), x, FAR, 1000, at)
    assert BACKEND.to_numpy(at).tolist() == [FAR * 1000]
