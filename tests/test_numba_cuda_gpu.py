"""The Numba-CUDA backend on a GPU: what the simulator cannot show.  `pytest -m gpu tests/test_numba_cuda_gpu.py`; without a device all is skipped."""

import ml_dtypes  # noqa: F401  (teaches NumPy the name "bfloat16")
import numpy as np
import pytest

import moespec
from moespec.backend import resolve
from moespec.conformance import verify
from moespec.models import mixtral
from moespec_numba_cuda import BACKEND

READY, WHY = BACKEND.available()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not READY or BACKEND.execution != "real", reason=f"no GPU: {WHY}")]
DTYPES = ["float64", "float32", "float16", "bfloat16"]


@pytest.fixture
def cp():
    return pytest.importorskip("cupy")


def accept(array):
    from moespec_numba_cuda._arrays import accept
    return accept(array)


def address(array):
    return array.__cuda_array_interface__["data"][0]


def bits(arrays):
    return [BACKEND.to_numpy(a).tobytes() for a in arrays]


def busy(cp, cycles):
    """Keep the current stream busy."""
    spin = cp.RawKernel('extern "C" __global__ void spin(long long n) { long long s = clock64(); while (clock64() - s < n); }', "spin")
    spin((1,), (1,), (np.int64(cycles),))


@pytest.fixture
def busy_stream(cp):
    """A function: a stream of CuPy with work for half a second or more, once all that is used has been compiled."""
    def make(warm_up=lambda: None):
        cp.cuda.Device().synchronize()         # a non-blocking stream waits for nobody
        stream = cp.cuda.Stream(non_blocking=True)
        with stream:
            busy(cp, 1000)
            warm_up()
            stream.synchronize()
            busy(cp, 10**9)
        return stream
    return make


# ---- results ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("op", ["gates.topk", "dispatch.combine", "experts.glu", "losses.load_balance"])
def test_parity(op, dtype):
    report = verify(BACKEND, op=op, dtypes=[dtype], errors=False)
    assert report.execution == "real"
    assert report.executed > 0
    assert not [f"{r.id}: {r.message}" for r in report.failures[:10]]


@pytest.mark.parametrize("dtype", DTYPES)
def test_two_runs_are_equal_bit_for_bit(dtype):
    spec, rng = mixtral(8, 96, 2), np.random.default_rng(0)
    params = {name: BACKEND.from_numpy(a) for name, a in spec.init(64, rng=0, dtype=dtype).items()}
    x, dy = (BACKEND.from_numpy(rng.standard_normal((300, 64)).astype(dtype)) for _ in range(2))

    def run():
        out, saved = moespec.forward(spec, params, x, backend=BACKEND)
        grads = moespec.backward(saved, dy)
        return [out.y, grads.x, *grads.params.values()]

    assert bits(run()) == bits(run())


# ---- arrays of others ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", [*DTYPES, "int64", "int32", "bool"])
def test_arrays_of_cupy_are_taken_without_a_copy(dtype, cp):
    x = cp.asarray(np.arange(12).reshape(3, 4).astype(dtype))
    found = accept(x)
    assert (found.shape, found.dtype, address(found)) == (x.shape, x.dtype, x.data.ptr)
    x.fill(1)
    cp.cuda.Device().synchronize()
    assert BACKEND.to_numpy(found).tobytes() == np.ones((3, 4), dtype).tobytes()         # the same memory


def test_taking_an_array_does_not_wait_for_its_stream(cp, busy_stream):
    stream = busy_stream()
    with stream:
        x = cp.zeros((3, 4), "float32")
        found = accept(x)                      # CuPy names the stream in the array's interface
        assert not stream.done
    assert address(found) == x.data.ptr


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_tensors_of_torch_are_taken_without_a_copy(dtype):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip(f"torch {torch.__version__} finds no CUDA device")
    x = torch.randn(5, 8, device="cuda", dtype=getattr(torch, dtype))
    assert address(accept(x)) == x.data_ptr()
    found = resolve(BACKEND, "gates.softmax").forward(x)[0]
    assert np.allclose(BACKEND.to_numpy(found).astype("float32"), torch.softmax(x.float(), -1).cpu().numpy(), rtol=2e-2, atol=1e-3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_results_go_to_cupy_without_a_copy(dtype, cp):
    x = cp.asarray(np.random.default_rng(0).standard_normal((5, 8)).astype(dtype))
    found = resolve(BACKEND, "gates.softmax").forward(x)[0]
    taken = cp.asarray(found.view(np.uint16)).view(x.dtype) if dtype == "bfloat16" else cp.asarray(found)
    assert (taken.data.ptr, taken.dtype) == (address(found), x.dtype)
    assert cp.asnumpy(taken).tobytes() == BACKEND.to_numpy(found).tobytes()


def test_arrays_of_the_host_are_refused():
    with pytest.raises(TypeError, match="works on arrays of the device, got numpy.ndarray"):
        resolve(BACKEND, "gates.softmax").forward(np.zeros((2, 3), "float32"))


# ---- streams ---------------------------------------------------------------------------------------------------------

def test_work_is_queued_on_the_given_stream(cp, busy_stream):
    from moespec_numba_cuda._device import cuda
    x = cp.asarray(np.random.default_rng(0).standard_normal((300, 64)).astype("float32"))
    softmax = resolve(BACKEND, "gates.softmax")
    wanted = bits([softmax.forward(x)[0]])
    with cuda.defer_cleanup():                 # giving memory back to the driver waits for the device
        stream = busy_stream()
        with BACKEND.using(stream):
            found = softmax.forward(x)[0]
        assert not stream.done                 # the host is back while the stream is still busy
    stream.synchronize()
    assert bits([found]) == wanted


def test_what_precedes_on_the_given_stream_is_seen(cp, busy_stream):
    from moespec_numba_cuda._device import cuda
    softmax, stated = resolve(BACKEND, "gates.softmax"), cp.zeros((4, 8), "float32")
    softmax.forward(stated)                    # compiles
    with cuda.defer_cleanup():
        stream = busy_stream(lambda: stated.fill(0))
        with stream, BACKEND.using(stream):
            stated[:, 0] = 1e4                 # behind half a second of other work
            found = softmax.forward(stated)[0]
    stream.synchronize()
    assert BACKEND.to_numpy(found).tolist() == [[1, 0, 0, 0, 0, 0, 0, 0]] * 4


def test_the_default_stream_of_cupy_is_numbas(cp):
    from moespec_numba_cuda._device import stream
    with BACKEND.using(cp.cuda.Stream.null):
        assert stream() == 0


# ---- shapes ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", DTYPES)
def test_losses_have_no_dimension(dtype, cp):
    logits, loss_of = cp.ones((6, 4), dtype), resolve(BACKEND, "losses.z_loss")
    loss, saved = loss_of.forward(logits)
    assert loss.shape == ()
    assert abs(float(BACKEND.to_numpy(loss)) - (1 + np.log(4)) ** 2) < 0.05
    dlogits = BACKEND.to_numpy(loss_of.backward(saved, cp.ones((), loss.dtype)))
    assert np.allclose(dlogits.astype("float32"), 2 * (1 + np.log(4)) / 6 / 4, rtol=0.02)


def test_arrays_may_be_empty(cp):
    probs, saved = resolve(BACKEND, "gates.softmax").forward(cp.zeros((0, 8), "float32"))
    assert BACKEND.to_numpy(probs).shape == (0, 8)
    plan = resolve(BACKEND, "dispatch.plan").forward(cp.zeros((0, 2), "int64"), experts=3)[0]
    assert BACKEND.to_numpy(plan[-1]).tolist() == [0, 0, 0, 0]
    product = resolve(BACKEND, "experts.grouped_matmul")
    out, saved = product.forward(cp.zeros((0, 4), "float32"), cp.ones((3, 4, 5), "float32"), plan[-1])
    assert BACKEND.to_numpy(out).shape == (0, 5)
    drows, dw = product.backward(saved, cp.zeros((0, 5), "float32"))
    assert BACKEND.to_numpy(drows).shape == (0, 4)
    assert not BACKEND.to_numpy(dw).any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("strided", [lambda a: a.T, lambda a: a[:, ::2], lambda a: a[1:, 1:], lambda a: a[::-1]],
                         ids=["transposed", "every other", "part", "reversed"])
def test_arrays_may_be_strided(strided, dtype, cp):
    x, softmax = cp.asarray(np.random.default_rng(0).standard_normal((6, 6)).astype(dtype)), resolve(BACKEND, "gates.softmax")
    assert bits([softmax.forward(strided(x))[0]]) == bits([softmax.forward(cp.ascontiguousarray(strided(x)))[0]])


def test_arrays_that_come_by_dlpack_alone_share_their_memory(cp):
    class Alone:
        """No CUDA array interface."""

        def __init__(self, array):
            self.array, self.dtype = array, array.dtype

        def __dlpack__(self, **options):
            return self.array.__dlpack__(**options)

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

    x = cp.arange(12, dtype="float32").reshape(3, 4)
    taken = accept(Alone(x))
    assert address(taken) == address(x)
    assert np.array_equal(taken.copy_to_host(), x.get())
