"""cuBLAS's grouped product: what the launcher hands to nvmath-python, without a GPU, and the ops that are computed by it."""

import ctypes
import shutil
import sys
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from moespec.conformance import verify
from moespec_cupy import _launcher
from moespec_cupy._nvmath import GroupedProducts

if shutil.which("g++") is None:
    pytest.skip("g++ is not installed", allow_module_level=True)
from cupy_emulated import BACKEND

CODES = SimpleNamespace(CUDA_R_16F=2, CUDA_R_16BF=14, CUDA_R_32F=0, CUDA_R_64F=1)
DTYPES = {2: "float16", 14: "bfloat16", 0: "float32", 1: "float64"}


class OnTheHost(np.ndarray):
    """An array whose address is found as CuPy's is."""

    @property
    def data(self):
        return SimpleNamespace(ptr=self.ctypes.data)


def column_major(pointer, rows, columns, leading, dtype):
    """A matrix as cuBLAS sees it."""
    dtype = np.dtype(dtype)
    size = (leading * (columns - 1) + rows) * dtype.itemsize
    raw = np.frombuffer((ctypes.c_char * size).from_address(pointer), np.uint8).view(dtype)
    return np.lib.stride_tricks.as_strided(raw, (rows, columns), (dtype.itemsize, leading * dtype.itemsize))


def read(pointer, dtype, count):
    dtype = np.dtype(dtype)
    return np.frombuffer((ctypes.c_char * (count * dtype.itemsize)).from_address(pointer), dtype)


class FakeCublas:
    """cublasGemmGroupedBatchedEx from its definition, on the memory of the host."""

    ComputeType, Operation = SimpleNamespace(COMPUTE_32F=68, COMPUTE_64F=70), SimpleNamespace(N=0, T=1)

    def __init__(self):
        self.streams, self.handles, self.calls = [], 0, 0

    def create(self):
        self.handles += 1
        return self.handles

    def set_stream(self, handle, stream):
        self.streams.append((handle, stream))

    def gemm_grouped_batched_ex(self, handle, transa, transb, m, n, k, alpha, a, atype, lda, b, btype, ldb, beta, c, ctype, ldc,
                                groups, group_size, compute):
        self.calls += 1
        dtype, wide = DTYPES[ctype], {68: "float32", 70: "float64"}[compute]
        assert atype == btype == ctype
        assert list(group_size) == [1] * groups
        assert (read(alpha, wide, groups) == 1).all()
        assert (read(beta, wide, groups) == 0).all()
        tables = [read(table, np.uint64, groups) for table in (a, b, c)]
        for i, (at_a, at_b, at_c) in enumerate(zip(*map(list, tables), strict=True)):
            left = column_major(int(at_a), *((k[i], m[i]) if transa[i] else (m[i], k[i])), lda[i], dtype)
            right = column_major(int(at_b), *((n[i], k[i]) if transb[i] else (k[i], n[i])), ldb[i], dtype)
            left, right = (x.T if t else x for x, t in ((left, transa[i]), (right, transb[i])))
            column_major(int(at_c), m[i], n[i], ldc[i], dtype)[...] = (left.astype(wide) @ right.astype(wide)).astype(dtype)


@pytest.fixture
def cublas(monkeypatch):
    fake = FakeCublas()
    monkeypatch.setitem(sys.modules, "nvmath", SimpleNamespace(CudaDataType=CODES))
    monkeypatch.setitem(sys.modules, "nvmath.bindings.cublas", fake)
    return fake


def products():
    cuda = SimpleNamespace(get_device_id=lambda: 0, get_current_stream=lambda: SimpleNamespace(ptr=77))
    return GroupedProducts(SimpleNamespace(cuda=cuda, asarray=lambda a: np.array(a).view(OnTheHost)))


def array(shape, dtype):
    """Small integers, on 16 bytes: products are exact."""
    room = np.zeros(int(np.prod(shape)) * np.dtype(dtype).itemsize + 16, np.uint8)
    start = -room.ctypes.data % 16
    found = room[start:start + int(np.prod(shape)) * np.dtype(dtype).itemsize].view(dtype).reshape(shape)
    found[...] = np.random.default_rng(len(shape)).integers(-3, 4, shape)
    return found.view(OnTheHost)


BOUNDS = [0, 3, 3, 4, 9]                 # an expert without rows; row 9 is dead


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize(("a", "b", "out", "transposed"), [
    ((10, 16), (4, 16, 8), (10, 8), (False, False)), ((10, 8), (4, 16, 8), (10, 16), (False, True)), ((10, 16), (10, 8), (4, 16, 8), (True, False))])
def test_what_is_handed_over_is_the_product_of_every_expert(a, b, out, transposed, dtype, cublas):
    a, b, out = (array(shape, dtype) for shape in (a, b, out))
    before, call = out.copy(), products()
    assert call(a, b, out, BOUNDS, *transposed)
    for e, (start, stop) in enumerate(pairwise(BOUNDS)):
        left, right, got, was = (np.asarray(x[start:stop] if x.ndim == 2 else x[e]).astype("float64") for x in (a, b, out, before))
        left, right = (x.T if t else x for x, t in zip((left, right), transposed, strict=True))
        assert np.array_equal(got, left @ right if stop > start else was)
    assert np.array_equal(out[9:] if out.ndim == 2 else out[1], before[9:] if out.ndim == 2 else before[1])
    assert cublas.calls == 1
    call(a, b, out, BOUNDS, *transposed)
    assert cublas.streams == [(1, 77), (1, 77)]                                       # one handle, the caller's stream


@pytest.mark.parametrize(("width", "dtype", "taken"), [(7, "bfloat16", False), (7, "float32", True), (8, "float16", True), (0, "float32", False)])
def test_what_cublas_does_not_take_is_left_to_others(width, dtype, taken, cublas):
    a, b, out = (array(shape, dtype) for shape in ((10, width), (4, width, 8), (10, 8)))
    assert products()(a, b, out, BOUNDS, False, False) is taken
    assert cublas.calls == taken


def test_no_rows_at_all(cublas):
    a, b, out = (array(shape, "float32") for shape in ((0, 4), (4, 4, 8), (0, 8)))
    assert products()(a, b, out, [0, 0, 0, 0, 0], False, False)
    assert not cublas.calls


def test_absent(monkeypatch):
    monkeypatch.setitem(sys.modules, "nvmath", None)
    with pytest.raises(ModuleNotFoundError, match="gemm='nvmath' needs nvmath-python: pip install 'moespec\\[nvmath-cuda13\\]'"):
        products()


def test_ops_computed_by_it_pass_the_suite(monkeypatch):
    calls, grouped = [], type(_launcher.get()).grouped_matmul
    monkeypatch.setattr(BACKEND, "gemm", "nvmath")
    monkeypatch.setattr(type(_launcher.get()), "grouped_matmul", lambda *args: calls.append(grouped(*args)) or calls[-1])
    for name in ("grouped_matmul", "linear", "ffn", "glu", "moe"):
        report = verify(BACKEND, op=f"experts.{name}", dtypes=["float32", "float16"], errors=False)
        assert report.executed > 0
        assert not [f"{r.id}: {r.message}" for r in report.failures[:10]]
    assert {True, False} == set(calls)                                                # the fall-back to the loop as well
