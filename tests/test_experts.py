"""Experts against hand-computed numbers, the dense one-hot einsum, SciPy and differences."""

import ml_dtypes  # noqa: F401  (teaches NumPy the name "bfloat16")
import numpy as np
import pytest
from scipy import special

from moespec import experts, program

OFFSETS = np.array([0, 3, 3, 5])           # expert 1 is idle, row 5 is dead
E, N, D, F = 3, 6, 4, 5
SMOOTH = {
    "silu": lambda x: x * special.expit(x),
    "gelu": lambda x: x * (1 + special.erf(x / np.sqrt(2))) / 2,
    "gelu_tanh": lambda x: x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2,
}
CURVES = {**SMOOTH, "identity": lambda x: x, "relu": lambda x: x * (x > 0), "relu2": lambda x: x * x * (x > 0)}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def one_hot(offsets=OFFSETS, n=N):
    """[N, E]; a dead row is 0 everywhere."""
    row = np.arange(n)[:, None]
    return ((row >= offsets[:-1]) & (row < offsets[1:])).astype(float)


def dense(rows, w, b=None, hot=None):
    hot = one_hot() if hot is None else hot
    y = np.einsum("ne,nd,edf->nf", hot, rows, w)
    return y if b is None else y + hot @ b


def weights(rng):
    return rng.standard_normal((E, D, F)), rng.standard_normal((E, D, F)), rng.standard_normal((E, F, D))


def differences(f, x, h=1e-6):
    """The gradient of the scalar f at the array x."""
    grad = np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[i] = h
        grad[i] = (f(x + step) - f(x - step)) / (2 * h)
    return grad


# ---- grouped products ------------------------------------------------------------------------------------------------

def test_grouped_matmul_by_hand():
    rows = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    w = np.array([[[1.0], [10.0]], [[100.0], [1000.0]]])
    out, saved = experts.grouped_matmul(rows, w, np.array([0, 1, 3]))
    assert out.tolist() == [[21.0], [4300.0], [6500.0]]
    drows, dw = experts.grouped_matmul_backward(saved, np.array([[1.0], [1.0], [2.0]]))
    assert drows.tolist() == [[1.0, 10.0], [100.0, 1000.0], [200.0, 2000.0]]
    assert dw.tolist() == [[[1.0], [2.0]], [[13.0], [16.0]]]


def test_grouped_matmul_is_the_one_hot_einsum(rng):
    rows, w, dout = rng.standard_normal((N, D)), rng.standard_normal((E, D, F)), rng.standard_normal((N, F))
    out, saved = experts.grouped_matmul(rows, w, OFFSETS)
    drows, dw = experts.grouped_matmul_backward(saved, dout)
    np.testing.assert_allclose(out, dense(rows, w), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(drows, np.einsum("ne,nf,edf->nd", one_hot(), dout, w), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(dw, np.einsum("ne,nd,nf->edf", one_hot(), rows, dout), rtol=1e-12, atol=1e-12)


def test_dead_rows_are_not_looked_at(rng):
    rows = rng.standard_normal((N, D))
    rows[5] = np.nan
    out, saved = experts.grouped_matmul(rows, rng.standard_normal((E, D, F)), OFFSETS)
    drows, dw = experts.grouped_matmul_backward(saved, np.full((N, F), 1.0))
    assert np.all(out[5] == 0)
    assert np.all(drows[5] == 0)
    assert np.isfinite(dw).all()


def test_an_idle_expert_gets_exactly_zero(rng):
    _, saved = experts.grouped_matmul(rng.standard_normal((N, D)), rng.standard_normal((E, D, F)), OFFSETS)
    _, dw = experts.grouped_matmul_backward(saved, np.ones((N, F)))
    assert np.all(dw[1] == 0)
    assert np.all(dw[[0, 2]] != 0)


def test_no_rows_at_all():
    out, saved = experts.grouped_matmul(np.zeros((0, D)), np.ones((E, D, F)), np.zeros(E + 1, int))
    drows, dw = experts.grouped_matmul_backward(saved, np.zeros((0, F)))
    assert out.shape == (0, F)
    assert drows.shape == (0, D)
    assert dw.shape == (E, D, F)
    assert not dw.any()


def test_sums_of_low_precision_rows_are_float32():
    rows = np.ones((1, 4096), "bfloat16")              # a bfloat16 accumulator stops at 256
    out, _ = experts.grouped_matmul(rows, np.ones((1, 4096, 1), "bfloat16"), np.array([0, 1]))
    assert out.dtype == np.dtype("bfloat16")
    assert float(out[0, 0]) == 4096.0


@pytest.mark.parametrize(("offsets", "message"), [
    ([1, 3, 3, 5], r"grouped_matmul: offsets\[0\]=1 must be 0"),
    ([0, 3, 2, 5], r"grouped_matmul: offsets\[2\]=2 is below offsets\[1\]=3"),
    ([0, 3, 3, 7], r"grouped_matmul: offsets\[3\]=7 exceeds the 6 rows \(rows has shape \(6, 4\)\)"),
])
def test_wrong_offsets_are_refused(offsets, message):
    with pytest.raises(ValueError, match=message):
        experts.grouped_matmul(np.zeros((N, D)), np.zeros((E, D, F)), np.array(offsets))


def test_linear_adds_the_bias_to_live_rows_only(rng):
    rows, w, dout = rng.standard_normal((N, D)), rng.standard_normal((E, D, F)), rng.standard_normal((N, F))
    b = rng.standard_normal((E, F))
    out, saved = experts.linear(rows, OFFSETS, w, b)
    np.testing.assert_allclose(out, dense(rows, w, b), rtol=1e-12, atol=1e-12)
    assert np.all(out[5] == 0)
    np.testing.assert_allclose(experts.linear_backward(saved, dout)[2], one_hot().T @ dout, rtol=1e-12, atol=1e-12)


def test_linear_without_bias_has_no_bias_gradient(rng):
    rows, w = rng.standard_normal((N, D)), rng.standard_normal((E, D, F))
    out, saved = experts.linear(rows, OFFSETS, w)
    assert np.array_equal(out, experts.grouped_matmul(rows, w, OFFSETS)[0])
    assert experts.linear_backward(saved, np.ones((N, F)))[2] is None


# ---- activations -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", CURVES)
def test_activation_values(name, rng):
    x = 3 * rng.standard_normal((7, 9))
    y, _ = getattr(experts, name)(x)
    np.testing.assert_allclose(y, CURVES[name](x), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", CURVES)
def test_activation_slopes(name, rng):
    x, dy = rng.standard_normal((3, 5)), rng.standard_normal((3, 5))
    _, saved = getattr(experts, name)(x)
    dx = getattr(experts, f"{name}_backward")(saved, dy)
    np.testing.assert_allclose(dx, differences(lambda v: (CURVES[name](v) * dy).sum(), x), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(("name", "at_one"), [
    ("silu", 0.7310585786300049), ("gelu", 0.8413447460685429), ("gelu_tanh", 0.8411919906082768),
    ("relu", 1.0), ("relu2", 1.0), ("identity", 1.0),
])
def test_activation_at_one(name, at_one):
    assert getattr(experts, name)(np.array([[1.0]]))[0][0, 0] == pytest.approx(at_one, rel=1e-14)


def test_relu_and_its_square_have_slope_zero_at_zero():
    x, dy = np.array([[0.0, -0.0, 2.0, -2.0]]), np.ones((1, 4))
    assert experts.relu_backward(experts.relu(x)[1], dy).tolist() == [[0.0, 0.0, 1.0, 0.0]]
    assert experts.relu2_backward(experts.relu2(x)[1], dy).tolist() == [[0.0, 0.0, 4.0, 0.0]]


@pytest.mark.parametrize("name", CURVES)
def test_a_nan_is_not_swallowed(name):
    y, _ = getattr(experts, name)(np.array([[np.nan, 1.0]]))
    assert np.isnan(y[0, 0])
    assert np.isfinite(y[0, 1])


@pytest.mark.parametrize("name", SMOOTH)
def test_float32_survives_where_exp_overflows(name):
    x = np.array([[-1000.0, -104.0, -89.0, 89.0, 104.0, 1000.0]], np.float32)
    y, saved = getattr(experts, name)(x)
    dx = getattr(experts, f"{name}_backward")(saved, np.ones_like(x))
    np.testing.assert_allclose(y, np.maximum(x, 0), atol=1e-30)
    np.testing.assert_allclose(dx, x > 0, atol=1e-30)


def test_the_table_holds_every_activation(rng):
    x = rng.standard_normal((4, 4))
    assert set(experts.ACTIVATIONS) == set(CURVES)
    for name, activation in experts.ACTIVATIONS.items():
        assert np.array_equal(activation.value(x), getattr(experts, name)(x)[0])


# ---- networks --------------------------------------------------------------------------------------------------------

def test_ffn_by_hand():
    rows, w_in, w_out = np.array([[1.0], [2.0]]), np.array([[[1.0, -1.0]]]), np.array([[[3.0], [5.0]]])
    out, saved = experts.ffn(rows, np.array([0, 2]), w_in, w_out, np.array([[0.0, 1.5]]), np.array([[10.0]]))
    assert out.tolist() == [[15.5], [16.0]]                      # 1*3 + 0.5*5 + 10, and 2*3 + 0 + 10
    drows, dw_in, dw_out, db_in, db_out = experts.ffn_backward(saved, np.array([[1.0], [1.0]]))
    assert drows.tolist() == [[-2.0], [3.0]]                     # 3 - 5, and 3
    assert dw_in.tolist() == [[[9.0, 5.0]]]
    assert db_in.tolist() == [[6.0, 5.0]]
    assert dw_out.tolist() == [[[3.0], [0.5]]]
    assert db_out.tolist() == [[2.0]]


@pytest.mark.parametrize("activation", CURVES)
def test_ffn_is_the_dense_form(activation, rng):
    w_in, _, w_out = weights(rng)
    rows, b_in, b_out = rng.standard_normal((N, D)), rng.standard_normal((E, F)), rng.standard_normal((E, D))
    keep = rng.random((N, F))
    out, _ = experts.ffn(rows, OFFSETS, w_in, w_out, b_in, b_out, keep, activation=activation)
    want = dense(CURVES[activation](dense(rows, w_in, b_in)) * keep, w_out, b_out)
    np.testing.assert_allclose(out, want, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("activation", SMOOTH)
def test_ffn_gradients(activation, rng):
    w_in, _, w_out = weights(rng)
    inputs = [rng.standard_normal((N, D)), w_in, w_out, rng.standard_normal((E, F)), rng.standard_normal((E, D))]
    keep, dout = rng.random((N, F)), rng.standard_normal((N, D))

    def loss(rows, w_in, w_out, b_in, b_out):
        return (dense(CURVES[activation](dense(rows, w_in, b_in)) * keep, w_out, b_out) * dout).sum()

    _, saved = experts.ffn(inputs[0], OFFSETS, *inputs[1:], keep, activation=activation)
    for i, grad in enumerate(experts.ffn_backward(saved, dout)):
        want = differences(lambda x, i=i: loss(*inputs[:i], x, *inputs[i + 1:]), inputs[i])
        np.testing.assert_allclose(grad, want, rtol=1e-6, atol=1e-7)


def test_expert_dropout_drops_hidden_units(rng):
    w_in, _, w_out = weights(rng)
    rows, keep = rng.standard_normal((N, D)), np.ones((N, F))
    keep[:, 2] = 0
    dropped, _ = experts.ffn(rows, OFFSETS, w_in, w_out, None, None, keep)
    without, _ = experts.ffn(rows, OFFSETS, np.delete(w_in, 2, 2), np.delete(w_out, 2, 1))
    np.testing.assert_allclose(dropped, without, rtol=1e-12, atol=1e-12)


def test_glu_by_hand():
    rows, w_gate, w_up = np.array([[2.0]]), np.array([[[3.0, -1.0]]]), np.array([[[5.0, 7.0]]])
    w_down = np.array([[[1.0], [1.0]]])
    out, saved = experts.glu(rows, np.array([0, 1]), w_gate, w_up, w_down, activation="relu")
    assert out.tolist() == [[60.0]]                              # relu(6) * 10 + relu(-2) * 14
    drows, dw_gate, dw_up, dw_down, *_ = experts.glu_backward(saved, np.array([[1.0]]))
    assert drows.tolist() == [[60.0]]                            # 10 * 3 + 6 * 5
    assert dw_gate.tolist() == [[[20.0, 0.0]]]
    assert dw_up.tolist() == [[[12.0, 0.0]]]
    assert dw_down.tolist() == [[[60.0], [0.0]]]


@pytest.mark.parametrize("activation", CURVES)
def test_glu_is_the_dense_form(activation, rng):
    w_gate, w_up, w_down = weights(rng)
    rows, keep = rng.standard_normal((N, D)), rng.random((N, F))
    out, _ = experts.glu(rows, OFFSETS, w_gate, w_up, w_down, keep, activation=activation)
    want = dense(CURVES[activation](dense(rows, w_gate)) * dense(rows, w_up) * keep, w_down)
    np.testing.assert_allclose(out, want, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("activation", SMOOTH)
def test_glu_gradients(activation, rng):
    inputs = [rng.standard_normal((N, D)), *weights(rng)]
    keep, dout = rng.random((N, F)), rng.standard_normal((N, D))

    def loss(rows, w_gate, w_up, w_down):
        return (dense(CURVES[activation](dense(rows, w_gate)) * dense(rows, w_up) * keep, w_down) * dout).sum()

    _, saved = experts.glu(inputs[0], OFFSETS, *inputs[1:], keep, activation=activation)
    grads = experts.glu_backward(saved, dout)
    assert grads[4:] == (None, None, None)                       # no biases were given
    for i, grad in enumerate(grads[:4]):
        want = differences(lambda x, i=i: loss(*inputs[:i], x, *inputs[i + 1:]), inputs[i])
        np.testing.assert_allclose(grad, want, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_glu_rounds_once(dtype, rng):
    rows, *w = (a.astype(dtype) for a in (rng.standard_normal((N, D)), *weights(rng)))
    out, saved = experts.glu(rows, OFFSETS, *w)
    wide, _ = experts.glu(rows.astype("float32"), OFFSETS, *(a.astype("float32") for a in w))
    assert out.dtype == rows.dtype
    assert np.array_equal(out, wide.astype(dtype))
    assert {d.dtype for d in experts.glu_backward(saved, out)[:4]} == {rows.dtype}


def test_unknown_activation():
    with pytest.raises(ValueError, match=r"glu: activation='swish' is not one of .*silu.* \(rows has shape \(6, 4\)\)"):
        experts.glu(np.zeros((N, D)), OFFSETS, np.zeros((E, D, F)), np.zeros((E, D, F)), np.zeros((E, F, D)), activation="swish")


# ---- the routed layer ------------------------------------------------------------------------------------------------

INDICES = np.array([[0, 2], [2, -1], [-1, -1], [0, 0], [2, 0]])          # nobody goes to expert 1


def moe(*inputs, **attrs):
    return program.composed(experts.OPS["moe"], program.reference).forward(*inputs, **attrs)


def moe_backward(saved, dy):
    return program.composed(experts.OPS["moe"], program.reference).backward(saved, dy)


def dense_moe(x, weights, w_gate, w_up, w_down, indices=INDICES):
    """Every expert on every token, mixed by the scattered weights."""
    mix = np.einsum("tk,tke->te", weights, (indices[:, :, None] == np.arange(E)).astype(float))
    g, u = np.einsum("td,edf->tef", x, w_gate), np.einsum("td,edf->tef", x, w_up)
    return np.einsum("te,tef,efd->td", mix, SMOOTH["silu"](g) * u, w_down)


def layer(rng):
    return [rng.standard_normal((len(INDICES), D)), rng.standard_normal(INDICES.shape), *weights(rng)]


def test_moe_is_the_dense_mixture(rng):
    x, *rest = layer(rng)
    y, _ = moe(x, INDICES, *rest)
    np.testing.assert_allclose(y, dense_moe(x, *rest), rtol=1e-11, atol=1e-12)
    assert np.all(y[2] == 0)


def test_moe_gradients(rng):
    inputs, dy = layer(rng), rng.standard_normal((len(INDICES), D))
    _, saved = moe(inputs[0], INDICES, *inputs[1:])
    missing = INDICES < 0
    for i, grad in enumerate(moe_backward(saved, dy)[:5]):               # no biases were given
        want = differences(lambda v, i=i: (dense_moe(*inputs[:i], v, *inputs[i + 1:]) * dy).sum(), inputs[i])
        np.testing.assert_allclose(grad, want, rtol=1e-6, atol=1e-7)
        assert i != 1 or np.all(grad[missing] == 0)
        assert i < 2 or np.all(grad[1] == 0)


def test_moe_with_a_static_number_of_rows(rng):
    x, *rest = layer(rng)
    y, saved = moe(x, INDICES, *rest, rows=7)
    assert saved.saved[-1].rows.shape == (7, D)             # what combine keeps
    assert np.array_equal(y, moe(x, INDICES, *rest)[0])


def test_moe_is_a_straight_line():
    steps = experts.moe_steps({"E": 8}, activation="gelu", rows=12)
    assert [s.op for s in steps] == ["dispatch.plan", "dispatch.permute", "experts.glu", "dispatch.combine"]
    assert steps[0].attrs == {"experts": 8, "rows": 12}
    assert steps[2].attrs == {"activation": "gelu"}
    program.check(steps, [a.name for a in experts.OPS["moe"].inputs])
