"""The Numba-CUDA backend in the simulator."""

from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest

from moespec import backward, forward
from moespec.backend import resolve
from moespec.conformance import verify
from moespec.models import deepseekmoe2024, mixtral, shazeer2017, switch2021
from moespec.registry import OPS

cuda = pytest.importorskip("numba.cuda")

from moespec_numba_cuda import (  # noqa: E402
    BACKEND,
    _arrays,
    _kernel,
)
from moespec_numba_cuda._device import SIMULATED, device, stream  # noqa: E402
from moespec_numba_cuda._kernel import Grid, items, kernel  # noqa: E402


def passes(report):
    assert report.executed > 0
    assert not [f"{r.id}: {r.message}" for r in report.failures[:10]]


def on_device(array):
    return BACKEND.from_numpy(array)


def test_it_is_emulated_and_says_so():
    assert SIMULATED
    assert BACKEND.execution == "emulated"
    report = verify(BACKEND, op="gates.softmax", dtypes=["float32"], errors=False)
    assert report.execution == "emulated"
    assert report.where.startswith("emulated: Numba's simulator")


def test_every_primitive_is_implemented():
    assert not [name for name, op in OPS.items() if op.steps is None and name not in BACKEND.ops()]


def test_every_op_that_has_a_backward_has_one_here():
    assert not [name for name, impl in BACKEND.ops().items() if OPS[name].backward is not None and impl.backward is None]


@pytest.mark.parametrize("name", ["gates.softmax", "gates.topk", "dispatch.plan", "dispatch.combine", "experts.grouped_matmul"])
def test_one_block_of_one_thread_with_poisoned_memory(name, monkeypatch):
    def poisoned(shape, dtype):
        array = np.full(shape, {"f": np.nan, "i": -(2**40), "b": 1}.get(np.dtype(dtype).kind, 7), dtype)
        return cuda.to_device(array)

    monkeypatch.setattr(_arrays, "allocate", poisoned)
    monkeypatch.setattr(_kernel, "MOST", 1)
    passes(verify(BACKEND, op=name, dtypes=["float32"], errors=False))


def bits(dtype):
    return np.arange(2**16, dtype=np.uint16).view(dtype)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_every_half_widens_and_comes_back(dtype):
    halves = bits(dtype)
    wide = _arrays.read(on_device(halves))
    back = _arrays.convert(wide, halves.dtype)
    assert np.array_equal(wide.copy_to_host(), halves.astype("float32"), equal_nan=True)
    assert np.array_equal(back.copy_to_host().astype("float32"), halves.astype("float32"), equal_nan=True)


def test_bfloat16_rounds_to_nearest_even():
    edge = np.arange(0x3F7F0000, 0x3F820000, 0x800, dtype=np.uint32).view("float32")        # ties among them
    wide = np.concatenate([edge, -edge, np.float32([3.4e38, 1e-40, np.inf, -np.inf, np.nan, -0.0])])
    with np.errstate(over="ignore"):
        wanted = wide.astype(ml_dtypes.bfloat16)
    found = _arrays.convert(on_device(wide), wanted.dtype).copy_to_host()
    assert np.array_equal(found.astype("float32"), wanted.astype("float32"), equal_nan=True)


def test_arrays_in_any_strides_are_straightened():
    x = np.arange(24, dtype="float32").reshape(4, 6)
    view = on_device(x).T
    assert np.array_equal(_arrays.read(view).copy_to_host(), x.T)
    cube = on_device(np.arange(60).reshape(3, 4, 5)).transpose((2, 0, 1))
    assert np.array_equal(_arrays.read(cube).copy_to_host(), np.arange(60).reshape(3, 4, 5).transpose(2, 0, 1))


def test_arrays_of_the_host_are_refused():
    with pytest.raises(TypeError, match=r"works on arrays of the device, got numpy\.ndarray"):
        resolve(BACKEND, "gates.softmax").forward(np.zeros((2, 3), "float32"))
    with pytest.raises(TypeError, match="does not work on numpy.ndarray"):
        forward(mixtral(2, 4, 1), mixtral(2, 4, 1).init(3, rng=0), np.zeros((2, 3)), backend=BACKEND)


@pytest.mark.parametrize("spec", [mixtral(4, 8, 2), deepseekmoe2024(8, 8, 2), shazeer2017(4, 8, 2), switch2021(4, 8)])
def test_layers(spec):
    rng = np.random.default_rng(0)
    params, x, dy = spec.init(6, rng=1, dtype="float64"), rng.standard_normal((2, 5, 6)), rng.standard_normal((2, 5, 6))
    out, saved = forward(spec, params, x)
    wanted = backward(saved, dy)
    there, kept = forward(spec, {n: on_device(p) for n, p in params.items()}, on_device(x), backend=BACKEND)
    found = backward(kept, on_device(dy))
    assert np.abs(there.y.copy_to_host() - out.y).max() < 1e-13
    assert np.abs(found.x.copy_to_host() - wanted.x).max() < 1e-13
    for name, gradient in wanted.params.items():
        assert np.abs(found.params[name].copy_to_host() - gradient).max() < 1e-13, name


def test_a_given_stream_is_the_one_that_kernels_get():
    given = cuda.stream()
    assert stream() == 0
    with BACKEND.using(given):
        assert stream() is given
        for default in (SimpleNamespace(ptr=0), SimpleNamespace(cuda_stream=0)):        # as CuPy and torch have it
            with BACKEND.using(default):
                assert stream() == 0
    assert stream() == 0


@kernel("i1")
def uneven(x):
    """Only some threads come to the barrier."""
    if cuda.threadIdx.x == 0:
        cuda.syncthreads()
    x[0] = 1


def test_a_barrier_that_some_never_reach_breaks(monkeypatch):
    from moespec_numba_cuda import _simulator
    monkeypatch.setattr(_simulator, "PATIENCE", 0.2)
    with pytest.raises(Exception, match="tid="):
        uneven(Grid(1, 2), on_device(np.zeros(1, "int64")))


@kernel("T1 T1")
def shared_twice(x, y):
    a = cuda.shared.array(4, x.dtype)
    b = cuda.shared.array(4, x.dtype)
    i = cuda.threadIdx.x
    a[i] = x[i]
    b[i] = 10 * x[i]
    cuda.syncthreads()
    y[i] = a[3 - i] + b[3 - i]


def test_shared_arrays_are_one_a_line_and_shared_by_the_block():
    x, y = on_device(np.arange(4, dtype="float32")), on_device(np.zeros(4, "float32"))
    for _ in range(20):
        shared_twice(Grid(1, 4), x, y)
        assert y.copy_to_host().tolist() == [33, 22, 11, 0]


@device
def twice(x):
    return x + x


@kernel("T1 i1 T")
def declared(x, ids, c):
    for i in range(cuda.grid(1), len(x), cuda.gridsize(1)):
        x[i] = twice(x[i]) + ids[i] * c


def test_kernels_refuse_what_they_were_not_declared_for():
    x, ids = on_device(np.ones(3, "float64")), on_device(np.arange(3))
    declared(items(3), x, ids, 0.5)
    assert x.copy_to_host().tolist() == [2, 2.5, 3]
    with pytest.raises(TypeError, match="declared takes 3 arguments, got 2"):
        declared(items(3), x, ids)
    with pytest.raises(TypeError, match=r"C-contiguous array of int64 with 1 dimensions, got int32 with shape \(3,\)"):
        declared(items(3), x, on_device(np.arange(3, dtype="int32")), 1.0)
    with pytest.raises(TypeError, match=r"got float32 with shape \(2, 2\)"):
        declared(items(3), on_device(np.ones((2, 2), "float32")), ids, 1.0)
