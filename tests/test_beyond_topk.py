"""Routers other than token-choice top-k, against the layers of their papers, written out."""

import numpy as np
import pytest

from moespec import dispatch, experts, gates, losses
from moespec.numerics import softmax


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def ffn(rng, e, d, f):
    """w_in, w_out of e experts."""
    return rng.standard_normal((e, d, f)), rng.standard_normal((e, f, d))


def through(x, routing, w_in, w_out):
    """The experts' rows of a routing, combined; and what backward needs."""
    (token, row, offsets), _ = dispatch.plan(routing.indices, experts=len(w_in))
    rows, permuted = dispatch.permute(x, token)
    out, ran = experts.ffn(rows, offsets, w_in, w_out, activation="relu")
    y, combined = dispatch.combine(out, routing.weights, row)
    return y, (permuted, ran, combined)


def test_expert_choice_as_the_paper_computes_it(rng):
    """X_in = P X, X_out[l] = sum_ij P_ijl G_ij X_e[i, j], with the one-hot P[e, C, n]; the load has no variation at all."""
    x, s, c = rng.standard_normal((12, 5)), softmax(rng.standard_normal((12, 4))), 3
    w_in, w_out = ffn(rng, 4, 5, 7)
    routing, _ = gates.expert_choice(s, capacity=c)
    chosen = np.argsort(-s.T, axis=1, kind="stable")[:, :c]                     # I[e, C]
    p = np.eye(12)[chosen]                                                      # P[e, C, n]
    g = np.take_along_axis(s.T, chosen, 1)
    out = np.stack([np.maximum(p[e] @ x @ w_in[e], 0) @ w_out[e] for e in range(4)])
    np.testing.assert_allclose(through(x, routing, w_in, w_out)[0], np.einsum("ecn,ec,ecd->nd", p, g, out), atol=1e-12)
    load = (routing.indices >= 0).sum(0)
    assert losses.importance_cv2(routing.indices, (routing.indices >= 0) * 1.0, experts=4)[0] == 0
    assert load.tolist() == [c] * 4


def test_expert_choice_sees_the_future():
    """Why it is not for causal models: a later token takes an earlier one's place."""
    s = np.array([[3.0], [2.0], [1.0], [0.0]])
    assert gates.expert_choice(s, capacity=2)[0].indices[:, 0].tolist() == [0, 0, -1, -1]
    s[3] = 9
    assert gates.expert_choice(s, capacity=2)[0].indices[:, 0].tolist() == [0, -1, -1, 0]


def test_mixture_of_depths_is_expert_choice_with_one_expert(rng):
    """x + r f(x) for the C tokens of a sequence with the largest r = x w, x for the others; the router learns from <dy, f(x)>."""
    x, w, group = rng.standard_normal((16, 5)), rng.standard_normal((5, 1)), np.repeat([0, 1], 8)
    w_in, w_out = ffn(rng, 1, 5, 7)
    r, linear = gates.linear(x, w)
    routing, chose = gates.expert_choice(r, group, capacity=1)                  # C = 12.5 % of a sequence
    y, (_, _, combined) = through(x, routing, w_in, w_out)
    f = np.maximum(x @ w_in[0], 0) @ w_out[0]
    top = [int(np.argmax(r[:8])), 8 + int(np.argmax(r[8:]))]
    want = x.copy()
    want[top] += r[top] * f[top]
    np.testing.assert_allclose(x + y, want, atol=1e-12)
    dy = rng.standard_normal(x.shape)
    dr = gates.expert_choice_backward(chose, dispatch.combine_backward(combined, dy)[1])
    np.testing.assert_allclose(dr[:, 0], np.where(np.isin(np.arange(16), top), (dy * f).sum(1), 0), atol=1e-12)
    assert gates.linear_backward(linear, dr)[1].any()


def soft_moe(x, phi, scale, group, groups, w_in, w_out):
    """The whole layer from our ops; y and a function from dy to (dx, dphi, dscale)."""
    unit_x, nx = gates.l2_normalize(x, axis=1)
    unit_phi, nphi = gates.l2_normalize(phi, scale, axis=0)
    logits, linear = gates.linear(unit_x, unit_phi)
    (d, c), softened = gates.soft(logits, group)
    (rows, offsets), mixed = dispatch.mix(x, d, group, experts=len(w_in), groups=groups)
    out, ran = experts.ffn(rows, offsets, w_in, w_out, activation="silu")
    y, unmixed = dispatch.unmix(out, c, group, groups=groups)

    def backward(dy):
        dout, dc = dispatch.unmix_backward(unmixed, dy)
        dx, dd = dispatch.mix_backward(mixed, experts.ffn_backward(ran, dout)[0])
        dunit_x, dunit_phi = gates.linear_backward(linear, gates.soft_backward(softened, dd, dc))[:2]
        dphi, dscale = gates.l2_normalize_backward(nphi, dunit_phi)
        return dx + gates.l2_normalize_backward(nx, dunit_x)[0], dphi, dscale

    return y, backward


def soft_inputs(rng):
    x, phi, scale, group = rng.standard_normal((10, 5)), rng.standard_normal((5, 6)), np.array(3.0), np.repeat([0, 1], 5)
    return x, phi, scale, group, 2, *ffn(rng, 3, 5, 4)


def test_soft_moe_as_the_paper_computes_it(rng):
    x, phi, scale, group, groups, w_in, w_out = soft_inputs(rng)
    y, _ = soft_moe(x, phi, scale, group, groups, w_in, w_out)
    for g in range(groups):
        own = x[group == g]
        logits = own / (np.linalg.norm(own, axis=1, keepdims=True) + 1e-6) @ (scale * phi / (np.linalg.norm(phi, axis=0) + 1e-6))
        slots = softmax(logits, axis=0).T @ own
        h = [slots[s] @ w_in[s // 2] for s in range(6)]                          # two slots an expert
        out = np.stack([a / (1 + np.exp(-a)) @ w_out[s // 2] for s, a in enumerate(h)])
        np.testing.assert_allclose(y[group == g], softmax(logits, axis=1) @ out, atol=1e-12)


def test_all_of_soft_moe_is_differentiable(rng):
    x, phi, scale, *rest = soft_inputs(rng)
    y, backward = soft_moe(x, phi, scale, *rest)
    dy = rng.standard_normal(y.shape)
    grads = backward(dy)
    for i, a in enumerate((x, phi, scale)):
        v, h = rng.standard_normal(a.shape), 1e-6
        up, down = ([b + s * h * v if j == i else b for j, b in enumerate((x, phi, scale))] for s in (1, -1))
        slope = ((soft_moe(*up, *rest)[0] - soft_moe(*down, *rest)[0]) * dy).sum() / (2 * h)
        assert (grads[i] * v).sum() == pytest.approx(slope, rel=1e-6)


def test_soft_moe_does_not_depend_on_the_order_of_a_groups_tokens(rng):
    x, phi, scale, group, groups, w_in, w_out = soft_inputs(rng)
    order = rng.permutation(10)
    y, _ = soft_moe(x, phi, scale, group, groups, w_in, w_out)
    moved, _ = soft_moe(x[order], phi, scale, group[order], groups, w_in, w_out)
    np.testing.assert_allclose(moved, y[order], atol=1e-12)


def test_a_cold_sinkhorn_plan_is_the_balanced_assignment(rng):
    s = rng.standard_normal((12, 3))
    plan, _ = gates.sinkhorn(60 * s, iterations=2000)
    best, _ = gates.assign(s)
    np.testing.assert_array_equal(gates.topk(plan, k=1)[0], best)


def test_sinkhorn_where_plain_exponentials_give_nan():
    logits = np.array([[1000.0, 0.0], [0.0, 1000.0]], np.float32)
    plan, _ = gates.sinkhorn(logits)
    np.testing.assert_allclose(plan, np.eye(2), atol=1e-6)


@pytest.mark.parametrize(("p", "experts_of_8"), [(0.1, 1), (0.125, 1), (0.126, 2), (0.5, 4), (1.0, 8)])
def test_top_p_of_a_uniform_router(p, experts_of_8):
    routing, _ = gates.top_p(np.full((1, 8), 0.125), p=p)
    assert (routing.indices >= 0).sum() == experts_of_8


def test_top_p_takes_more_experts_where_the_router_is_less_sure():
    scores = np.array([[0.7, 0.1, 0.1, 0.1], [0.3, 0.3, 0.2, 0.2]])
    assert (gates.top_p(scores, p=0.5)[0].indices >= 0).sum(1).tolist() == [1, 2]
    assert losses.router_entropy(np.log(scores[:1]))[0] < losses.router_entropy(np.log(scores[1:]))[0]


def test_the_coefficient_of_relu_routing_follows_the_sparsity():
    assert losses.sparsity_coefficient(1e-8, 0.5, target=0.75) == pytest.approx(1.2e-8)
    assert losses.sparsity_coefficient(1e-8, 0.9, target=0.75) == pytest.approx(1e-8 / 1.2)
    assert losses.sparsity_coefficient(1e-8, 0.75, target=0.75) == 1e-8
    back = losses.sparsity_coefficient(losses.sparsity_coefficient(3.0, 0.0, target=0.5, factor=2.0), 1.0, target=0.5, factor=2.0)
    assert back == 3.0
    with pytest.raises(ValueError, match=r"^sparsity_coefficient: coefficient=0.0 must be above 0"):
        losses.sparsity_coefficient(0.0, 0.5, target=0.5)
    with pytest.raises(ValueError, match=r"^sparsity_coefficient: factor=1.0 must be above 1"):
        losses.sparsity_coefficient(1.0, 0.5, target=0.5, factor=1.0)


def test_relu_routing_reaches_its_sparsity(rng):
    """The paper's loop in small: logits learn from the regulariser alone, the coefficient holds the gates at k = 2 of 8."""
    logits, coefficient, k = rng.standard_normal((256, 8)) + 1.0, 1e-3, 2
    for _ in range(400):
        (ids, weights), routed = gates.relu_route(logits)
        coefficient = losses.sparsity_coefficient(coefficient, (ids < 0).mean(), target=1 - k / 8)
        _, regular = losses.gate_l1(ids, weights, experts=8, k=k)
        pull = gates.relu_route_backward(routed, losses.gate_l1_backward(regular, coefficient))
        logits = logits - 5.0 * pull + 0.01 * rng.standard_normal(logits.shape)
    assert (ids >= 0).sum(1).mean() == pytest.approx(k, abs=0.4)


def loads(scores, bias, k):
    return np.bincount(gates.topk(scores + bias, k=k)[0].ravel(), minlength=len(bias))


def max_violation(load):
    return load.max() / load.mean() - 1


@pytest.mark.parametrize("update", [
    lambda s, b, n, k: gates.bias_sign(b, n, rate=0.02)[0],
    lambda s, b, n, k: gates.bias_centred(b, n, rate=0.02)[0],
    lambda s, b, n, k: gates.bias_proportional(b, n, rate=1.0, k=k)[0],
    lambda s, b, n, k: 0.5 * (b + gates.quantile_bias(s, b, k=k)[0]),
], ids=["sign", "centred", "proportional", "quantile"])
def test_a_bias_balances_without_a_loss(rng, update):
    """Skewed scores, the same at every step: the largest load comes down from far above the mean."""
    scores, bias, k = rng.standard_normal((512, 8)) + np.linspace(0, 2, 8), np.zeros(8), 2
    assert max_violation(loads(scores, bias, k)) > 1
    for _ in range(200):
        bias = update(scores, bias, loads(scores, bias, k), k)
    assert max_violation(loads(scores, bias, k)) < 0.15


@pytest.mark.parametrize("update", ["bias_sign", "bias_centred", "bias_proportional"])
def test_a_forward_that_is_run_again_does_not_count_twice(update):
    """Counters doubled by activation checkpointing: no update depends on the total, and none keeps a counter of its own."""
    attrs = {"rate": 0.25} | ({"k": 2} if update == "bias_proportional" else {})
    bias, counts = np.array([0.5, 0.0, -0.5]), np.array([6, 1, 2])
    once, _ = getattr(gates, update)(bias, counts, **attrs)
    twice, _ = getattr(gates, update)(bias, 2 * counts, **attrs)
    np.testing.assert_array_equal(once, twice)
    np.testing.assert_array_equal(bias, [0.5, 0.0, -0.5])
    np.testing.assert_array_equal(getattr(gates, update)(bias, counts, **attrs)[0], once)
