"""Fields of the declaration against their formulas, by loops over tokens."""

import numpy as np
from layer_specs import SPECS, D, prepared

import moespec
from moespec.layer import LayerSpec


def silu(z):
    return z / (1 + np.exp(-z))


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def glu(params, prefix, e, x):
    return (silu(x @ params[f"{prefix}.w_gate"][e]) * (x @ params[f"{prefix}.w_up"][e])) @ params[f"{prefix}.w_down"][e]


def by_loops(name, token):
    """The output of the layer `name`, token by token through `token(params, x)`."""
    spec = SPECS[name]
    params, x, given, _ = prepared(spec)
    y = moespec.forward(spec, params, x, context=given["context"])[0].y.reshape(-1, D)
    wanted = [token(params, row) for row in x.reshape(-1, D)]
    np.testing.assert_allclose(y, wanted, rtol=1e-10, atol=1e-12)


def test_a_selection_bias_chooses_and_does_not_weigh():
    def token(p, x):
        s = sigmoid(x @ p["router.w"])
        ids = np.argsort(-(s + p["router.correction"]), kind="stable")[:2]
        return sum(2.5 * s[i] / s[ids].sum() * glu(p, "experts", i, x) for i in ids)

    by_loops("correction", token)


def test_groups_are_ranked_by_their_two_best_biased_scores():
    def token(p, x):
        s = sigmoid(x @ p["router.w"])
        c = s + p["router.correction"]
        best = 0 if c[:2].sum() >= c[2:].sum() else 1
        return sum(s[i] * glu(p, "experts", i, x) for i in (2 * best, 2 * best + 1))

    by_loops("groups", token)


def test_a_weight_on_the_input_goes_through_the_expert():
    def token(p, x):
        l = x @ p["router.w"]
        i = int(l.argmax())
        return glu(p, "experts", i, sigmoid(l[i]) * x)

    by_loops("weigh_input", token)


def test_the_gate_of_a_shared_expert_is_a_sigmoid_of_the_token():
    def token(p, x):
        e = np.exp(x @ p["router.w"])
        s = e / e.sum()
        ids = np.argsort(-s)[:2]
        routed = sum(s[i] * glu(p, "experts", i, x) for i in ids)
        return routed + sigmoid(x @ p["shared.0.gate"][:, 0]) * glu(p, "shared.0", 0, x)

    by_loops("shared_gated", token)


def test_shared_experts_that_the_router_weighs():
    def token(p, x):
        s, shared = sigmoid(x @ p["router.w"]), sigmoid(x @ p["router.w_shared"])
        ids = np.argsort(-(s + p["router.correction"]))[:2]
        total = s[ids].sum() + shared.sum()
        routed = sum(s[i] / total * glu(p, "experts", i, x) for i in ids)
        return 2 * p["router.scale"] * (routed + sum(shared[m] / total * glu(p, "shared.0", m, x) for m in range(2)))

    by_loops("shared_weighted", token)


def test_ids_beyond_the_experts_return_the_token():
    def token(p, x):
        e = np.exp(x @ p["router.w"])
        s = e / e.sum()
        ids = np.argsort(-(s + p["router.correction"]))[:3]
        return sum(s[i] * (glu(p, "experts", i, x) if i < 3 else x) for i in ids)

    by_loops("copies", token)


def test_two_pools_of_experts_for_two_kinds_of_tokens():
    spec = SPECS["pools"]
    params, x, given, _ = prepared(spec)
    kinds = given["context"]["moe_mm_token_type_ids"].ravel()
    y = moespec.forward(spec, params, x, context=given["context"])[0].y.reshape(-1, D)
    first = moespec.forward(LayerSpec(spec.router, spec.experts, shared=spec.shared), {k: v for k, v in params.items() if "pool" not in k}, x)[0].y
    inner = {k.removeprefix("pool."): v for k, v in params.items() if k.startswith("pool.")} | {k: v for k, v in params.items() if "shared" in k}
    second = moespec.forward(LayerSpec(spec.pool.router, spec.pool.experts, shared=spec.shared), inner, x)[0].y
    wanted = np.where(kinds[:, None] == 0, first.reshape(-1, D), second.reshape(-1, D))
    np.testing.assert_allclose(y, wanted, rtol=1e-12)


def test_partial_experts_fill_the_last_features():
    spec = SPECS["partial"]
    p, x, given, _ = prepared(spec)
    y = moespec.forward(spec, p, x, context=given["context"])[0].y
    for row, e in enumerate(given["context"]["dataset_index"]):
        from scipy.special import ndtr
        before = x[row] @ p["experts.w_in"][0] + p["experts.b_in"][0]
        hidden = before * ndtr(before)
        wanted = np.concatenate([hidden @ p["experts.w_rest"][0] + p["experts.b_rest"][0], hidden @ p["experts.w"][e] + p["experts.b"][e]], axis=1)
        np.testing.assert_allclose(y[row], wanted, rtol=1e-10)
