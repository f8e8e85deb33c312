"""The CuPy backend on a GPU: what no emulation can show.  `pytest -m gpu tests/test_cupy_gpu.py`; without a device all is skipped."""

import gc
from types import SimpleNamespace

import ml_dtypes  # noqa: F401  (teaches NumPy the name "bfloat16")
import numpy as np
import pytest

import moespec
from moespec.backend import resolve
from moespec.conformance import verify
from moespec.models import deepseekmoe2024, mixtral
from moespec_cupy import BACKEND, _launcher

READY, WHY = BACKEND.available()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not READY, reason=f"no GPU: {WHY}"), pytest.mark.filterwarnings("ignore:cupyx.allow_synchronize")]
LAYERS = {"mixtral": mixtral(8, 96, 2), "deepseek": deepseekmoe2024(n=8, width=96, k=2)}
D, TOKENS = 64, 300
BEYOND = (1 << 31) + (1 << 18)                 # elements: more than an int can count


@pytest.fixture
def cp():
    return pytest.importorskip("cupy")


@pytest.fixture(autouse=True)
def memory_goes_back():
    yield
    gc.collect()
    if READY:
        _launcher.get().xp.get_default_memory_pool().free_all_blocks()


def step(name, dtype="bfloat16"):
    """(a function that runs the layer forward and backward and returns all results, its input)."""
    spec, rng = LAYERS[name], np.random.default_rng(0)
    params = {key: BACKEND.from_numpy(a) for key, a in spec.init(D, rng=0, dtype=dtype).items()}
    x, dy = (BACKEND.from_numpy(rng.standard_normal((TOKENS, D)).astype(dtype)) for _ in range(2))

    def run():
        out, saved = moespec.forward(spec, params, x, backend=BACKEND)
        grads = moespec.backward(saved, dy)
        return [out.y, grads.x, *grads.params.values()]

    return run, x


def bits(arrays):
    return [BACKEND.to_numpy(a).tobytes() for a in arrays]


# ---- results ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("op", ["gates.softmax", "gates.topk", "gates.route", "dispatch.plan", "dispatch.permute", "dispatch.combine",
                                "experts.glu", "experts.moe", "losses.load_balance", "losses.z_loss"])
def test_parity(op, dtype):
    report = verify(BACKEND, op=op, dtypes=[dtype], errors=False)
    assert report.execution == "real"
    assert report.executed > 0
    assert not [f"{r.id}: {r.message}" for r in report.failures[:10]]


@pytest.mark.parametrize("way", ["loop", "nvmath"])
@pytest.mark.parametrize("op", ["experts.grouped_matmul", "experts.glu"])
def test_parity_of_products_by_cublas(op, way, monkeypatch):
    if way == "nvmath":
        pytest.importorskip("nvmath")
    monkeypatch.setattr(BACKEND, "gemm", way)
    report = verify(BACKEND, op=op, dtypes=["float32", "bfloat16"], errors=False)
    assert report.executed > 0
    assert not [f"{r.id}: {r.message}" for r in report.failures[:10]]


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_two_runs_are_equal_bit_for_bit(name, dtype):
    run, _ = step(name, dtype)
    assert bits(run()) == bits(run())


# ---- streams, memory, waiting ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", LAYERS)
def test_nothing_waits_for_the_device(name, cp):
    from cupyx import DeviceSynchronized, allow_synchronize
    run, x = step(name)
    run()                                      # compiles
    with allow_synchronize(False):
        run()
        with pytest.raises(DeviceSynchronized):
            x.get()                            # it would be noticed


def test_the_loop_waits(cp, monkeypatch):
    from cupyx import DeviceSynchronized, allow_synchronize
    run, _ = step("mixtral")
    monkeypatch.setattr(BACKEND, "gemm", "loop")
    with allow_synchronize(False), pytest.raises(DeviceSynchronized):
        run()


def busy(cp, cycles):
    """Keep the current stream busy."""
    spin = cp.RawKernel('extern "C" __global__ void spin(long long n) { long long s = clock64(); while (clock64() - s < n); }', "spin")
    spin((1,), (1,), (np.int64(cycles),))


def test_work_is_queued_on_the_callers_stream(cp):
    run, _ = step("mixtral")
    wanted = bits(run())
    cp.cuda.Device().synchronize()
    stream = cp.cuda.Stream(non_blocking=True)
    with stream:
        run()                                  # memory of this stream
        busy(cp, 1000)                         # compiles
        stream.synchronize()
        busy(cp, 10**9)                        # half a second or more
        found = run()
        assert not stream.done                 # the host is back while the stream is still busy
    stream.synchronize()
    assert bits(found) == wanted


def test_forward_and_backward_are_captured_and_replayed(cp):
    run, x = step("mixtral", "float32")
    stream, wanted, replayed = cp.cuda.Stream(non_blocking=True), {}, {}
    cp.cuda.Device().synchronize()             # a non-blocking stream waits for nobody
    with stream:
        inputs = {"first": x.copy(), "other": x[::-1].copy()}
        for key, values in inputs.items():
            x[...] = values
            wanted[key] = [BACKEND.to_numpy(a) for a in run()]
        stream.begin_capture()
        results = run()
        graph = stream.end_capture()
        for key in ("first", "other", "first"):
            x[...] = inputs[key]
            graph.launch(stream)
            assert replayed.setdefault(key, bits(results)) == bits(results)
            for a, b in zip(results, wanted[key], strict=True):       # not bit for bit: the router's products are tiles in a graph
                assert np.abs(BACKEND.to_numpy(a) - b).max() <= 1e-5 * np.abs(b).max()


def test_memory_comes_from_the_callers_pool(cp):
    run, _ = step("mixtral")
    run()
    gc.collect()
    default, mine = cp.get_default_memory_pool(), cp.cuda.MemoryPool()
    before = default.used_bytes()
    with cp.cuda.using_allocator(mine.malloc):
        results = run()
        assert mine.used_bytes() >= sum(a.nbytes for a in results)
    assert default.used_bytes() <= before


# ---- arrays of others ------------------------------------------------------------------------------------------------

def only(array, name):
    """An object that speaks one protocol and nothing else."""
    if name == "__cuda_array_interface__":
        return SimpleNamespace(__cuda_array_interface__=array.__cuda_array_interface__)
    return SimpleNamespace(__dlpack__=array.__dlpack__, __dlpack_device__=array.__dlpack_device__)


@pytest.mark.parametrize("protocol", ["__cuda_array_interface__", "__dlpack__"])
def test_arrays_of_other_libraries_are_taken_without_a_copy(protocol, cp):
    x = cp.asarray(np.random.default_rng(0).standard_normal((50, 16)).astype("float32"))
    softmax = resolve(BACKEND, "gates.softmax")
    assert _launcher.get().accept(only(x, protocol)).data.ptr == x.data.ptr
    assert bits([softmax.forward(only(x, protocol))[0]]) == bits([softmax.forward(x)[0]])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_tensors_of_torch(dtype, cp):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip(f"torch {torch.__version__} finds no CUDA device")
    x = torch.randn(50, 16, device="cuda", dtype=getattr(torch, dtype))
    softmax = resolve(BACKEND, "gates.softmax")
    ours = cp.from_dlpack(x)
    assert ours.data.ptr == x.data_ptr()
    assert bits([softmax.forward(x)[0]]) == bits([softmax.forward(ours)[0]])
    back = torch.from_dlpack(softmax.forward(x)[0])
    torch.testing.assert_close(back, torch.softmax(x.float(), -1).to(x.dtype), rtol=2e-2, atol=1e-3)


def test_arrays_of_the_host_are_refused():
    with pytest.raises(TypeError, match="works on arrays of the device, got numpy.ndarray"):
        resolve(BACKEND, "gates.softmax").forward(np.zeros((2, 3), "float32"))


# ---- more than 2^31 elements -----------------------------------------------------------------------------------------

@pytest.fixture
def room(cp):
    def need(size):
        free = cp.cuda.runtime.memGetInfo()[0]
        if free < size:
            pytest.skip(f"{size >> 30} GiB are needed, {free >> 30} are free")
    return need


def test_gather_and_its_adjoint_beyond_an_int(cp, room):
    room(12 << 30)
    width, tokens = 4096, 1024
    count = BEYOND // width
    x = cp.asarray(np.random.default_rng(0).integers(-9, 10, (tokens, width)).astype("bfloat16"))
    token = cp.arange(count, dtype="int64") % tokens
    permute = resolve(BACKEND, "dispatch.permute")
    rows, saved = permute.forward(x, token)
    assert rows.size > 1 << 31
    for start in (0, (1 << 30) // width, (1 << 31) // width - 8, count - 64):
        assert bits([rows[start:start + 64]]) == bits([x[token[start:start + 64]]])
    rows.fill(1)
    times, wanted = permute.backward(saved, rows), np.bincount(np.arange(count) % tokens).astype("bfloat16")
    assert bits([times]) == bits([cp.asarray(np.repeat(wanted[:, None], width, 1))])


def test_products_beyond_an_int(cp, room):
    room(12 << 30)
    depth, width, experts = 16, 4096, 4
    count, rng = BEYOND // width, np.random.default_rng(0)
    x = cp.asarray(rng.integers(-3, 4, (count, depth)).astype("bfloat16"))
    w = cp.asarray(rng.integers(-3, 4, (experts, depth, width)).astype("bfloat16"))
    offsets = cp.asarray(np.array([0, 100, count // 2, count - 50, count]))
    product = resolve(BACKEND, "experts.grouped_matmul")
    out, saved = product.forward(x, w, offsets)
    tail, _ = product.forward(x[-200:], w, cp.asarray(np.array([0, 0, 0, 150, 200])))
    assert out.size > 1 << 31
    assert bits([out[-200:]]) == bits([tail])
    drows, dw = product.backward(saved, out)
    dtail, _ = product.backward(product.forward(x[-200:], w, cp.asarray(np.array([0, 0, 0, 150, 200])))[1], tail)
    assert bits([drows[-200:]]) == bits([dtail])
    assert dw.shape == w.shape
