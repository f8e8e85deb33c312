"""The Numba backend's experts at size: right, repeatable, frugal, and polite to the threads of others."""

import numpy as np
import pytest

from moespec.registry import OPS

numba = pytest.importorskip("numba", reason="the extra `numba` is not installed")
from threadpoolctl import threadpool_info, threadpool_limits  # noqa: E402

from moespec_numba import BACKEND  # noqa: E402
from moespec_numba._products import row_blocks  # noqa: E402
from moespec_numba._threads import one_blas_thread  # noqa: E402
from moespec_numba.experts import _moe_block  # noqa: E402

MOE, REFERENCE = BACKEND.ops()["experts.moe"], OPS["experts.moe"]
CASES = {                                 # tokens, D, F, experts, choices, share of the tokens that only want the first two experts
    "one_token": (1, 64, 96, 8, 2, 0.0),
    "few_rows": (24, 40, 56, 16, 3, 0.0),
    "blocks": (1500, 48, 40, 3, 2, 0.0),
    "busy_expert": (1400, 40, 300, 16, 2, 0.8),
    "idle_experts": (9, 33, 17, 64, 2, 0.0),
}


def layer(case, dtype="float64", seed=0):
    t, d, f, e, k, busy = CASES[case]
    rng = np.random.default_rng(seed)
    ids = np.argsort(rng.random((t, e)), axis=1)[:, :k]
    ids[rng.random(t) < busy, :2] = 0, 1
    ids[rng.random(ids.shape) < 0.05] = -1
    numbers = [rng.standard_normal(shape) / 4 for shape in ((t, d), (t, k), (e, d, f), (e, d, f), (e, f, d), (e, f), (e, f), (e, d), (t, d))]
    x, weights, *params, dy = (a.astype(dtype) for a in numbers)
    return (x, ids, weights, *params), dy


def run(impl, inputs, dy, **attrs):
    y, saved = impl.forward(*inputs, **attrs)
    return (y, *impl.backward(saved, dy)), saved


@pytest.fixture(params=[1, 2])
def threads(request):
    before = numba.get_num_threads()
    if request.param > before:
        pytest.skip("one thread only")
    numba.set_num_threads(request.param)
    yield request.param
    numba.set_num_threads(before)


@pytest.mark.parametrize("attrs", [{}, {"limit": 0.3, "alpha": 1.7, "up_offset": 1.0}])
@pytest.mark.parametrize("case", CASES)
def test_right_at_size(case, attrs, threads):
    inputs, dy = layer(case)
    for got, want in zip(run(MOE, inputs, dy, **attrs)[0], run(REFERENCE, inputs, dy, **attrs)[0], strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-11 * np.abs(want).max())


@pytest.mark.parametrize("case", CASES)
def test_float32_is_close_to_float64(case):
    inputs, dy = layer(case)
    narrow = [a.astype("float32") if a.dtype == "float64" else a for a in inputs]
    wide = [a.astype("float64") if a.dtype == "float32" else a for a in narrow]
    for got, want in zip(run(MOE, narrow, dy.astype("float32"))[0], run(REFERENCE, wide, dy.astype("float32").astype("float64"))[0], strict=True):
        assert got.dtype == "float32"
        assert np.abs(got - want).max() <= 5e-6 * np.abs(want).max()


@pytest.mark.parametrize("case", CASES)
def test_repeats_bit_for_bit(case, threads):
    inputs, dy = layer(case, "float32")
    first, second = (run(MOE, inputs, dy)[0] for _ in range(2))
    assert all(a.tobytes() == b.tobytes() for a, b in zip(first, second, strict=True))


def test_saved_for_backward_are_the_pre_activations_and_the_routing():
    inputs, _ = layer("busy_expert", "float32")
    saved, (t, k), f = MOE.forward(*inputs)[1], inputs[1].shape, inputs[3].shape[2]
    own = {id(a): a for a in (*saved.own, saved.place, saved.offsets)}
    assert all(any(a is b for b in inputs) for a in saved.inputs)
    routing = 8 * (2 * t * k + len(saved.offsets))
    assert sum(a.nbytes for a in own.values()) <= 8 * t * k * f + routing


def test_an_expert_without_rows_costs_no_gradient_memory():
    inputs, dy = layer("idle_experts", "float32")
    grads, idle = run(MOE, inputs, dy)[0], ~np.isin(np.arange(64), inputs[1])
    assert idle.any()
    assert not any(d[idle].any() for d in grads[3:])


def blas():
    return [(lib["filepath"], lib["num_threads"]) for lib in threadpool_info() if lib["user_api"] == "blas"]


def test_blas_threads_come_back():
    inputs, dy = layer("few_rows", "float32")
    with threadpool_limits(2, "blas"):
        before = blas()
        run(MOE, inputs, dy)
        assert blas() == before
        with pytest.raises(RuntimeError, match="inside"):
            _fail_inside()
        assert blas() == before


def _fail_inside():
    with one_blas_thread():
        with one_blas_thread():
            pass
        assert {n for _, n in blas()} == {1}
        raise RuntimeError("inside")


def test_numba_threads_are_the_callers():
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        with one_blas_thread() as threads:
            assert threads == 1
        run(MOE, *layer("few_rows", "float32"))
        assert numba.get_num_threads() == 1
    finally:
        numba.set_num_threads(before)


@pytest.mark.parametrize("sizes", [[0, 0], [1, 0, 3], [512, 513, 1, 5000, 0, 1024], list(range(40))])
def test_tasks_cut_every_expert_into_nearly_equal_blocks_largest_first(sizes):
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    tasks = row_blocks(offsets)
    length = tasks[:, 2] - tasks[:, 1]
    assert (np.diff(length) <= 0).all()
    assert ((length > 0) & (length <= 512)).all()
    for e, size in enumerate(sizes):
        own = tasks[tasks[:, 0] == e]
        own = own[own[:, 1].argsort()]
        assert len(own) == -(-size // 512)
        assert own[:, 1].tolist() + [offsets[e + 1]] * bool(size) == [offsets[e]] * bool(size) + own[:, 2].tolist()
        assert size == 0 or np.ptp(own[:, 2] - own[:, 1]) < len(own)


def block(tokens, k=2, dtype="float32", seed=0):
    rng = np.random.default_rng(seed)
    shapes = (tokens, 24), (24, 6), (6, 24, 40), (6, 24, 40), (6, 40, 24), (6,), (6, 40), (6, 40), (6, 24)
    return [(rng.standard_normal(shape) / 3).astype(dtype) for shape in shapes], {"k": k, "norm": "sum", "score": "sigmoid"}


@pytest.mark.parametrize(("tokens", "few"), [(1, True), (8, True), (9, False)])
def test_a_few_tokens_go_through_a_block_in_one_kernel(tokens, few, threads):
    """16 assignments are few; on both sides of that the results are those of the reference, and backward is that of the steps."""
    impl, reference = BACKEND.ops()["experts.moe_block"], OPS["experts.moe_block"]
    inputs, attrs = block(tokens, dtype="float64")
    rng = np.random.default_rng(1)
    out, saved = impl.forward(*inputs, **attrs)
    wanted, of_reference = reference.forward(*inputs, **attrs)
    assert isinstance(saved, _moe_block.Saved) == few
    assert few or not saved.values                      # neither y nor what lies on the way to it
    for got, want in zip(out, wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-11)
    cotangents = [rng.standard_normal(a.shape) for a in (wanted.logits, wanted.gates, wanted.weights, wanted.y)]
    for got, want in zip(impl.backward(saved, *cotangents), reference.backward(of_reference, *cotangents), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-11)


def test_a_block_of_mixed_dtypes_takes_the_steps():
    inputs, attrs = block(2)
    inputs[3] = inputs[3].astype("float64")
    _, saved = BACKEND.ops()["experts.moe_block"].forward(*inputs, **attrs)
    assert not isinstance(saved, _moe_block.Saved)
