"""The CuPy backend without a GPU: its kernel texts executed on the CPU, its host code on arrays that cannot be looked into."""

import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from moespec.backend import load, resolve
from moespec.conformance import verify
from moespec.registry import OPS
from moespec_cupy import BACKEND as REAL
from moespec_cupy import _kernel, _launcher
from moespec_cupy._source import ROOT, compose, signatures, texts, variants

if shutil.which("g++") is None:
    pytest.skip("g++ is not installed", allow_module_level=True)
import cupy_emulated
from cupy_emulated import BACKEND, EmulatedLauncher, Waits

FAMILIES = ["gates", "dispatch", "experts", "losses"]


@pytest.fixture
def launcher(monkeypatch):
    """Makes this the launcher in force."""
    def install(chosen):
        monkeypatch.setattr(_launcher, "_launcher", chosen)
        return chosen
    return install


def passes(report):
    assert report.executed > 0
    assert not [f"{r.id}: {r.message}" for r in report.failures[:10]]


def own(family):
    """The ops of a family that have kernels; composed ones are made of them."""
    return [name for name in BACKEND.ops() if name.startswith(family)]


def test_tensor_cores():
    for name in own("experts"):                                        # everything in all four dtypes: moespec verify cupy_emulated:BACKEND
        passes(verify(BACKEND, op=name, dtypes=["bfloat16"], errors=False))


@pytest.mark.parametrize("family", FAMILIES)
def test_threads_in_the_opposite_order_on_few_blocks_with_poisoned_memory(family, launcher, monkeypatch):
    def poisoned(shape, dtype):
        array = _launcher.get().xp.empty(shape, dtype)
        array.fill(-(2**40) if array.dtype.kind == "i" else 1 if array.dtype.kind == "b" else np.nan)
        return array

    launcher(EmulatedLauncher(backwards=True))
    monkeypatch.setattr(_kernel, "MOST", 2)
    monkeypatch.setattr(_kernel, "allocate", poisoned)
    for name in own(family):
        passes(verify(BACKEND, op=name, dtypes=["float32"]))


def test_products_in_a_loop_over_the_experts(monkeypatch):
    monkeypatch.setattr(BACKEND, "gemm", "loop")
    assert BACKEND.declares["stores"]["experts.glu"]["dx_gate"] == "dtype"
    for name in ("grouped_matmul", "linear", "ffn", "glu", "moe"):
        passes(verify(BACKEND, op=f"experts.{name}", dtypes=["float32", "float16"], errors=False))
    with pytest.raises(ValueError, match="gemm='none' is not one of tile, loop, nvmath"):
        BACKEND.gemm = "none"


def test_every_primitive_is_implemented():
    assert not [name for name, op in OPS.items() if op.steps is None and name not in BACKEND.ops()]


def test_every_op_that_has_a_backward_has_one_here():
    assert not [name for name, impl in BACKEND.ops().items() if OPS[name].backward is not None and impl.backward is None]


def test_a_report_says_that_it_is_no_run_on_a_gpu():
    report = verify(BACKEND, op="experts.silu", dtypes=["float32"])
    assert report.execution == report.to_dict()["execution"] == "emulated"
    assert report.where.startswith("emulated: kernels executed on the CPU")
    assert REAL.execution == "real"
    assert "cupy-emulated" not in {p.name for p in __import__("importlib.metadata").metadata.entry_points(group="moespec.backends")}


# ---- states of the real one ------------------------------------------------------------------------------------------

def without_device():
    raise RuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient\nmore")


def without_nvrtc():
    raise RuntimeError('Failure finding "libnvrtc.so.13"')


def fake_cupy(count, nvrtc=lambda: (13, 0)):
    runtime = SimpleNamespace(getDeviceCount=count, getDeviceProperties=lambda i: {"name": b"NVIDIA H200"})
    return SimpleNamespace(__version__="14.2.0", cuda=SimpleNamespace(
        runtime=runtime, nvrtc=SimpleNamespace(getVersion=nvrtc), Device=lambda: SimpleNamespace(id=0, compute_capability="90")))


@pytest.mark.parametrize(("count", "ready", "told"), [
    (without_device, False, "installed, no device (cudaErrorInsufficientDriver: CUDA driver version is insufficient)"),
    (lambda: 0, False, "installed, no device (none is visible)"),
    (lambda: 1, True, "NVIDIA H200, compute capability 90, CuPy 14.2.0, products by tile")])
def test_states_of_an_installed_package(count, ready, told, monkeypatch):
    monkeypatch.setattr(REAL, "_device", None)
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy(count))
    monkeypatch.setattr("moespec_cupy._backend.find_spec", lambda name: name)
    assert REAL.available() == (ready, told)


def test_state_without_a_compiler(monkeypatch):
    monkeypatch.setattr(REAL, "_device", None)
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy(lambda: 1, without_nvrtc))
    monkeypatch.setattr("moespec_cupy._backend.find_spec", lambda name: name)
    ready, why = REAL.available()
    assert not ready
    assert why.startswith("installed, no compiler for the device (Failure finding \"libnvrtc.so.13\"): pip install 'moespec[cupy-cuda13]'")


def test_state_without_nvmath(monkeypatch):
    monkeypatch.setattr(REAL, "_device", None)
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy(lambda: 1))
    monkeypatch.setattr("moespec_cupy._backend.find_spec", lambda name: None if name == "nvmath" else name)
    assert REAL.available()[0]
    monkeypatch.setattr(REAL, "gemm", "nvmath")
    assert REAL.available() == (False, "gemm='nvmath' needs nvmath-python: pip install 'moespec[nvmath-cuda13]' (or nvmath-cuda12)")
    monkeypatch.setattr("moespec_cupy._backend.find_spec", lambda name: name)
    assert REAL.available()[1].endswith("products by nvmath")


def test_state_without_the_package(monkeypatch):
    monkeypatch.setattr(REAL, "_device", None)
    monkeypatch.setattr("moespec_cupy._backend.find_spec", lambda name: None)
    ready, why = REAL.available()
    assert not ready
    assert why.startswith("not installed: pip install 'moespec[cupy-cuda13]'")


def test_it_owns_by_loaded_modules_only(monkeypatch):
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    assert not REAL.owns(np.zeros(1))


def test_the_entry_point_leads_to_it():
    assert load("cupy") is REAL


# ---- calls -----------------------------------------------------------------------------------------------------------

def test_an_id_out_of_range_is_nobody_unless_values_are_checked(monkeypatch):
    plan, ids = resolve(BACKEND, "dispatch.plan"), np.array([[0, 7], [-5, 1]])
    (token, row, offsets), _ = plan.forward(ids, experts=2)
    assert BACKEND.to_numpy(row).tolist() == [[0, -1], [-1, 1]]
    assert BACKEND.to_numpy(token).tolist() == [0, 1, -1, -1]
    assert BACKEND.to_numpy(offsets).tolist() == [0, 1, 2]
    monkeypatch.setattr(BACKEND, "validate", True)
    with pytest.raises(ValueError, match="plan: indices holds 7, outside -1 .. 1"):
        plan.forward(ids, experts=2)


def test_what_has_no_values_refuses_to_tell_them():
    x = BACKEND.from_numpy(np.ones(3, "float32"))
    for look in (bool, float, list, np.sum, lambda a: a[a > 0], lambda a: a[0].item()):
        with pytest.raises(Waits):
            look(x)


def test_arguments_of_kernels_are_checked():
    kernels = _kernel.Kernels(ROOT / "experts" / "_silu.py", "_pointwise.cu")
    x, y = (BACKEND.from_numpy(np.ones(4, d)) for d in ("float32", "float64"))
    with pytest.raises(TypeError, match="activate takes 4 arguments, got 1"):
        kernels("activate", _kernel.items(4), x)
    with pytest.raises(TypeError, match="kernel activate: y is float64, but T is float32"):
        kernels("activate", _kernel.items(4), x, y, 4, 0)
    with pytest.raises(TypeError, match="x must be a C-contiguous array of float32"):
        kernels("activate", _kernel.items(2), x[::2], x[:2], 2, 0)


@pytest.mark.parametrize("buckets", [1, 7, 300, 4097, 1 << 20])
def test_sorting_by_any_number_of_keys(buckets):
    from moespec_cupy.dispatch._counting_sort import counting_sort

    keys = np.random.default_rng(buckets).integers(-1, buckets + 2, 5000)
    found = [BACKEND.to_numpy(a) for a in counting_sort(BACKEND.from_numpy(keys), buckets)]
    keys = np.where((keys >= 0) & (keys < buckets), keys, buckets)
    order, live = np.argsort(keys, kind="stable"), (keys < buckets).sum()
    place = np.full(len(keys), -1)
    place[order[:live]] = np.arange(live)
    wanted = np.where(np.arange(len(keys)) < live, order, -1), place, np.searchsorted(keys[order], np.arange(buckets + 1))
    assert all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))


# ---- the emulation ---------------------------------------------------------------------------------------------------

def run(tmp_path, text, name, *args, threads=64):
    (tmp_path / "text.cu").write_text(text)
    arrays = [BACKEND.from_numpy(a) if isinstance(a, np.ndarray) else a for a in args]
    _kernel.Kernels(tmp_path / "x", "text.cu")(name, _kernel.Grid(1, threads), *arrays)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("wide", ["float32", "float64"])
def test_conversions_round_once_to_the_nearest(dtype, wide, tmp_path):
    text = """
KERNEL there_and_back(const T *x, U *wide, const U *v, T *narrowed, i64 size) {
    for (i64 i = thread_index(); i < size; i += thread_count()) {
        wide[i] = widen(x[i]);
        narrowed[i] = narrow<T>(v[i]);
    }
}
"""
    every = np.arange(1 << 16, dtype=np.uint16).view(dtype)
    with np.errstate(all="ignore"):
        exact = every.astype(wide)
        values = (exact * (1 + np.random.default_rng(0).standard_normal(len(every)) * 2.0**-10)).astype(wide)
        halves = np.arange(1, 1 << 14, 2) * 2.0**-6                                                  # ties among them
        values[: len(halves)] = halves
        want = values.astype(dtype) if dtype == "float16" else values.astype("float32").astype(dtype)
    back, narrowed = np.empty(len(every), wide), np.empty(len(every), dtype)
    run(tmp_path, text, "there_and_back", every, back, values, narrowed, len(every))
    smallest = np.abs(exact) >= (0 if dtype == "float16" else 2.0**-126)                             # subnormals may be flushed
    assert np.array_equal(back[smallest], exact[smallest], equal_nan=True)
    with np.errstate(all="ignore"):
        nearer = np.abs(narrowed.astype("float64") - values) < np.abs(want.astype("float64") - values)    # NumPy goes by way of float32
        same = (narrowed == want) | nearer | (np.isnan(values) & np.isnan(narrowed.astype(wide))) | ~(np.abs(values) >= 2.0**-126)
    assert same.all()


def test_a_barrier_that_not_all_reach_is_found(tmp_path):
    with pytest.raises(RuntimeError, match="some threads wait at a barrier that others do not reach"):
        run(tmp_path, "KERNEL half(i64 *x) {\n    if (threadIdx.x < 32) __syncthreads();\n}\n", "half", np.zeros(1, np.int64))


def test_floating_numbers_have_no_atomics(tmp_path):
    with pytest.raises(RuntimeError, match="g\\+\\+ refuses a kernel text"):
        run(tmp_path, "KERNEL sum(f32 *x) {\n    atomicAdd(x, 1.0f);\n}\n", "sum", np.zeros(1, np.float32))


def test_a_missing_barrier_shows_in_one_of_the_orders(tmp_path, launcher):
    text = "KERNEL pass(i64 *x) {\n    __shared__ i64 s[64];\n    s[threadIdx.x] = threadIdx.x;\n    x[threadIdx.x] = s[63 - threadIdx.x];\n}\n"
    wrong = 0
    for backwards in (False, True):
        launcher(EmulatedLauncher(backwards))
        x = np.zeros(64, np.int64)
        run(tmp_path, text, "pass", x)
        wrong += (x != 63 - np.arange(64)).any()
    assert wrong


# ---- texts -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("path", texts(), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_text_keeps_to_what_is_written_down(path):
    source = compose(path, *variants(path)[-1])
    assert signatures(path)
    assert source.isascii()
    assert '#include "' not in source
    for word in ("asm", "atomicCAS", "extern __shared__", "isnan(", "INFINITY", "long long)", "std::"):
        assert word not in path.read_text(), word


def test_the_package_imports_without_cupy():
    assert "cupy" not in sys.modules or isinstance(sys.modules["cupy"], SimpleNamespace)
    assert cupy_emulated.BACKEND.name == "cupy-emulated"
