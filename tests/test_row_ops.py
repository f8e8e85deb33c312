"""Experts without rows and ops on whole branches: by hand, and put together as published layers do."""

import numpy as np
import pytest

from moespec import dispatch, experts
from moespec.registry import OPS

D, F, T, K = 4, 5, 9, 3
rng = np.random.default_rng(11)


def swiglu(n):
    return {"w_gate": rng.standard_normal((n, D, F)), "w_up": rng.standard_normal((n, D, F)), "w_down": rng.standard_normal((n, F, D))}


def one_expert(x, w, e=0):
    g = x @ w["w_gate"][e]
    return (g / (1 + np.exp(-g)) * (x @ w["w_up"][e])) @ w["w_down"][e]


def softmax(logits):
    t = np.exp(logits - logits.max())
    return t / t.sum()


def test_weights_on_the_input_are_not_weights_on_the_output():
    x, w, ids, weights = rng.standard_normal((T, D)), swiglu(2), rng.integers(0, 2, (T, 1)), rng.uniform(0.2, 0.8, (T, 1))
    (token, row, offsets), _ = dispatch.plan(ids, experts=2)
    rows, _ = dispatch.permute(x, token)
    weighed, saved = dispatch.weigh_rows(rows, weights, row)
    out, _ = experts.glu(weighed, offsets, **w)
    y, _ = dispatch.combine(out, np.ones((T, 1)), row)
    want = np.stack([one_expert(weights[t, 0] * x[t], w, ids[t, 0]) for t in range(T)])
    np.testing.assert_allclose(y, want, rtol=1e-12)
    assert np.abs(y - experts.moe(x, ids, weights, **w)[0]).max() > 0.1
    drows, dweights = dispatch.weigh_rows_backward(saved, np.ones_like(rows))
    np.testing.assert_allclose(dweights, x.sum(1, keepdims=True), rtol=1e-12)
    np.testing.assert_allclose(drows[row[:, 0]], np.broadcast_to(weights, (T, D)), rtol=1e-12)


def test_zero_copy_and_constant_experts_beside_networks():
    """MoE++: ids 0-1 are networks, 2 gives nothing, 3-4 the token, 5-6 a constant mixed with it."""
    x, w, ids, weights = rng.standard_normal((T, D)), swiglu(2), rng.integers(-1, 7, (T, K)), rng.uniform(0, 1, (T, K))
    w_mix, v = rng.standard_normal((2, D, 2)), rng.standard_normal((2, D))
    networks = experts.moe(x, np.where(ids < 2, ids, -1), weights, **w)[0]
    copies = experts.copy(x, ids, weights, first=3, last=5)[0]
    constants = experts.constant(x, ids, weights, w_mix, v, first=5)[0]
    want = np.zeros((T, D))
    for t, j in np.argwhere(ids >= 0):
        e, a = ids[t, j], softmax(x[t] @ w_mix[ids[t, j] - 5]) if ids[t, j] >= 5 else None
        each = one_expert(x[t], w, e) if e < 2 else 0 * x[t] if e == 2 else x[t] if e < 5 else a[0] * x[t] + a[1] * v[e - 5]
        want[t] += weights[t, j] * each
    np.testing.assert_allclose(networks + copies + constants, want, rtol=1e-12, atol=1e-12)


def test_singletons_are_networks_of_width_one():
    x, ids, weights = rng.standard_normal((T, D)), rng.integers(-1, 6, (T, K)), rng.standard_normal((T, K))
    w_in, w_out = rng.standard_normal((2, 6, D))
    y, saved = experts.singleton(x, ids, weights, w_in, w_out, activation="silu")
    (token, row, offsets), _ = dispatch.plan(ids, experts=6)
    out, inner = experts.ffn(dispatch.permute(x, token)[0], offsets, w_in[:, :, None], w_out[:, None], activation="silu")
    want, outer = dispatch.combine(out, weights, row)
    np.testing.assert_allclose(y, want, rtol=1e-12, atol=1e-12)
    dy = rng.standard_normal((T, D))
    _, dweights, dw_in, dw_out = experts.singleton_backward(saved, dy)
    dout, dweights_wanted = dispatch.combine_backward(outer, dy)
    _, dw_in_wanted, dw_out_wanted, *_ = experts.ffn_backward(inner, dout)
    np.testing.assert_allclose(dweights, dweights_wanted, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(dw_in, dw_in_wanted[:, :, 0], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(dw_out, dw_out_wanted[:, 0], rtol=1e-12, atol=1e-12)


def test_a_copy_by_hand():
    y, saved = experts.copy(np.array([[1.0, -2.0]]), np.array([[5, 0, 6, -1]]), np.array([[0.5, 9.0, 0.25, 7.0]]), first=5)
    assert y.tolist() == [[0.75, -1.5]]
    dx, dweights = experts.copy_backward(saved, np.array([[3.0, 1.0]]))
    assert dx.tolist() == [[2.25, 0.75]]
    assert dweights.tolist() == [[1.0, 0.0, 1.0, 0.0]]


def test_a_gated_shared_expert_and_the_mean_of_both_branches():
    x, w, routed = rng.standard_normal((T, D)), swiglu(1), rng.standard_normal((T, D))
    shared, _ = experts.glu(x, np.array([0, T]), **w)                    # a shared expert: one expert, every row
    gate = 1 / (1 + np.exp(-x @ rng.standard_normal((D, 1))))
    gated, _ = dispatch.gate_rows(shared, gate)
    want = np.stack([gate[t] * one_expert(x[t], w) for t in range(T)])
    np.testing.assert_allclose(gated, want, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(dispatch.add(routed, gated, scale=0.5)[0], (routed + want) / 2, rtol=1e-12, atol=1e-14)


def test_experts_of_a_partial_width():
    """The shared map makes three features, the token's expert the other two."""
    x, ids = rng.standard_normal((T, D)), rng.integers(0, 3, (T, 1))
    w_shared, w, b = rng.standard_normal((1, D, 3)), rng.standard_normal((3, D, 2)), rng.standard_normal((3, 2))
    shared, _ = experts.linear(x, np.array([0, T]), w_shared)
    (token, row, offsets), _ = dispatch.plan(ids, experts=3)
    own = dispatch.combine(experts.linear(dispatch.permute(x, token)[0], offsets, w, b)[0], np.ones((T, 1)), row)[0]
    y, saved = dispatch.concat(shared, own)
    want = [np.concatenate([x[t] @ w_shared[0], x[t] @ w[e] + b[e]]) for t, e in enumerate(ids[:, 0])]
    np.testing.assert_allclose(y, want, rtol=1e-12, atol=1e-14)
    assert [d.shape for d in dispatch.concat_backward(saved, y)] == [(T, 3), (T, 2)]


def test_an_output_bias_is_added_once_and_unweighted():
    y, saved = dispatch.add_bias(np.zeros((3, 2)), np.array([1.0, -2.0]))
    assert y.tolist() == [[1.0, -2.0]] * 3
    assert dispatch.add_bias_backward(saved, np.ones((3, 2)))[1].tolist() == [3.0, 3.0]


MIXED: dict[str, dict] = {
    "dispatch.add": {}, "dispatch.add_bias": {}, "dispatch.gate_rows": {}, "dispatch.concat": {}, "dispatch.weigh_rows": {},
    "experts.copy": {"first": 0}, "experts.constant": {"first": 0}, "experts.singleton": {}, "experts.glu": {}, "experts.moe": {},
}


@pytest.mark.parametrize("name", MIXED)
def test_results_have_the_dtype_of_the_first_input_and_gradients_that_of_their_own(name):
    op = OPS[name]
    sizes = {"T": 4, "K": 2, "D": 3, "N": 8, "E": 2, "F": 5, "P": 2, "Q": 3, "Z": 2}
    inputs, real = [], 0
    for arg in op.inputs:
        shape = [sizes.get(s, 2) if not s.isdigit() else int(s) for s in arg.shape.split()]
        if arg.kind == "index":
            inputs.append(np.arange(8).reshape(4, 2) % (8 if arg.of == "N" else 2))
        elif arg.kind == "count":
            inputs.append(np.array([0, 3, 8]))
        else:
            inputs.append(rng.standard_normal(shape).astype("float64" if real else "float32"))
            real += 1
    out, saved = op.forward(*inputs, **MIXED[name])
    assert out.dtype == np.float32
    grads = op.backward(saved, out)
    dtypes = {a.name: x.dtype for a, x in zip(op.inputs, inputs, strict=True)}
    assert [d.dtype for d in grads] == [dtypes[a.name] for a in op.grads]
