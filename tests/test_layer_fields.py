"""Every field of the declaration: its formula by loops over tokens, the gradients, few tokens, JSON, and what is refused."""

import json

import numpy as np
import pytest

import moespec
from moespec.layer import (
    Capacity,
    Clamp,
    ExpertChoice,
    Experts,
    Given,
    Groups,
    Latent,
    LayerSpec,
    Loss,
    Net,
    Norm,
    Pool,
    Router,
    Shared,
    Soft,
)

D = 6
GLU = Experts(4, 5)
SIGMOID = Router(k=2, score="sigmoid")
SPECS = {
    "router_bias": LayerSpec(Router(net=Net(bias=True), over="selected"), GLU),
    "router_norm": LayerSpec(Router(net=Net(norm=Norm(factor=0.5)), expert_scale=True, norm="sum"), GLU),
    "multiplier_and_cap": LayerSpec(Router(net=Net(multiplier=0.5, cap=2.0)), GLU),
    "mlp": LayerSpec(Router(net=Net("mlp", hidden=3, norm=Norm())), GLU),
    "mlp_with_memory": LayerSpec(Router(net=Net("mlp", hidden=3, memory=True)), GLU),
    "product_keys": LayerSpec(Router(k=2, over="selected", net=Net("product_keys")), Experts(9, kind="singleton")),
    "sigmoid": LayerSpec(SIGMOID, GLU),
    "sigmoid_over_selected": LayerSpec(Router(score="sigmoid", over="selected", norm="sum"), GLU),
    "sqrt_softplus": LayerSpec(Router(score="sqrt_softplus", norm="sum", eps=1e-20, scale=1.5), GLU),
    "correction": LayerSpec(Router(score="sigmoid", correction=True, norm="sum", scale=2.5), GLU),
    "correction_of_logits": LayerSpec(Router(score="sigmoid", over="selected", correction=True), GLU),
    "groups": LayerSpec(Router(score="sigmoid", correction=True, groups=Groups(2, 1)), GLU),
    "groups_by_maximum": LayerSpec(Router(groups=Groups(2, 1, "max", "raw", 0.0)), GLU),
    "lp": LayerSpec(Router(norm="lp", p=3.0), GLU),
    "scaled_sum": LayerSpec(Router(score="sigmoid", scale=2.0, scale_at="sum"), GLU),
    "learned_scale": LayerSpec(Router(learned_scale=True, norm="sum"), GLU),
    "weigh_input": LayerSpec(Router(k=1, score="sigmoid", over="selected", weigh="input"), GLU),
    "gaussian": LayerSpec(Router(noise="gaussian", noise_scale=0.25), GLU),
    "gumbel": LayerSpec(Router(noise="gumbel"), GLU),
    "sparsemixer": LayerSpec(Router(select="sparsemixer", threshold=0.1), GLU),
    "relu": LayerSpec(Router(select="relu"), GLU),
    "top_p": LayerSpec(Router(k=3, select="top_p", p=0.6), GLU),
    "assign": LayerSpec(Router(k=1, score="sigmoid", over="selected", select="assign"), GLU),
    "sinkhorn": LayerSpec(Router(select="sinkhorn"), GLU),
    "table": LayerSpec(Router(select="table", vocab=7, score="sqrt_softplus", norm="sum"), GLU),
    "hash": LayerSpec(Given("input_ids", k=2, vocab=7), GLU),
    "by_row": LayerSpec(Given("dataset_index"), GLU),
    "expert_choice": LayerSpec(ExpertChoice(2.0), GLU),
    "expert_choice_over_the_batch": LayerSpec(ExpertChoice(1.0, scope="batch", score="sigmoid"), Experts(4, 5, "ffn", "relu", bias=True)),
    "depths": LayerSpec(ExpertChoice(0.5, score="none"), Experts(1, 5)),
    "soft": LayerSpec(Soft(2), GLU),
    "soft_of_unit_length": LayerSpec(Soft(1, normalize=True, scope="batch"), GLU),
    "clamped": LayerSpec(Router(), Experts(4, 5, bias=True, clamp=Clamp(limit=0.7, alpha=1.7, up_offset=1.0))),
    "clamped_after": LayerSpec(Router(), Experts(4, 5, clamp=Clamp(limit=0.5, at="post"))),
    "capped": LayerSpec(Router(), Experts(4, 5, clamp=Clamp(cap_gate=1.0, cap_up=2.0))),
    "latent": LayerSpec(Router(), Experts(4, 5, latent=Latent(4, norm=Norm(offset=1.0), bias=True), norm=Norm(offset=1.0, scale_at="input"))),
    "partial": LayerSpec(Given("dataset_index"), Experts(4, 5, "linear", "gelu", bias=True, partial=2)),
    "copies": LayerSpec(Router(k=3, correction=True), Experts(3, 5, copies=2)),
    "constants_and_nothing": LayerSpec(Router(k=4, norm="sum"), Experts(3, 5, copies=1, constants=2, zeros=1)),
    "shared": LayerSpec(Router(), GLU, shared=(Shared(4), Shared(3, "ffn", "relu2", bias=True))),
    "shared_gated": LayerSpec(Router(), GLU, shared=(Shared(4, gate="sigmoid"),)),
    "shared_mean": LayerSpec(Router(), GLU, shared=(Shared(4),), combine="mean"),
    "shared_weighted": LayerSpec(Router(score="sigmoid", correction=True, scale=2.0, learned_scale=True), GLU,
                                 shared=(Shared(4, gate="router", n=2),)),
    "normed_and_biased": LayerSpec(Router(), GLU, shared=(Shared(4),), norm=Norm(), output_bias=True),
    "pools": LayerSpec(Router(), GLU, pool=Pool(Router(k=1), Experts(3, 4)), shared=(Shared(4),)),
    "fixed_capacity": LayerSpec(Router(k=1), GLU, Capacity(fixed=2, scope="row", order="token")),
    "loss_of_logits": LayerSpec(Router(score="sigmoid", correction=True), GLU, losses=(Loss("losses.load_balance", 0.5, source="logits"),)),
    "loss_of_scores": LayerSpec(Router(score="sigmoid", correction=True), GLU, losses=(Loss("losses.sequence_balance", 0.5, source="scores"),)),
}


def prepared(spec, seed=0, tokens=(2, 6)):
    rng = np.random.default_rng(seed)
    params = {k: v + 0.3 * rng.standard_normal(v.shape) if v.dtype.kind == "f" else v for k, v in spec.init(D, rng=rng).items()}
    n = int(np.prod(tokens))
    made = {"input_ids": rng.integers(0, 7, tokens), "dataset_index": rng.integers(0, 4, tokens[0]),
            "moe_mm_token_type_ids": rng.integers(0, 2, tokens), "router_states": rng.standard_normal((*tokens, 3))}
    wanted = (*spec.context, *(["router_states"] if getattr(getattr(spec.router, "net", None), "memory", False) else []))
    noise = spec.draw(n, D, rng=rng)
    if "heun" in noise:
        noise["heun"][:] = 0.9                            # the estimator is the derivative only where it does not damp the forward
    given = {"noise": noise, "context": {name: made[name] for name in wanted}, "training": True}
    return params, rng.standard_normal((*tokens, D)), given, rng


@pytest.mark.parametrize("name", SPECS)
def test_gradients_by_differences(name):
    spec = SPECS[name]
    params, x, given, rng = prepared(spec)
    out, saved = moespec.forward(spec, params, x, **given)
    replay = {n: out.values[n] for n in ("indices", "pool.indices") if out.values.get(n) is not None and n in read_as_input(saved)}
    given["context"] = {**given["context"], **replay}
    dy = rng.standard_normal(out.y.shape)

    def total(params, x):
        found, _ = moespec.forward(spec, params, x, **given)
        return (found.y * dy).sum() + sum(found.losses.values())

    grads = moespec.backward(saved, dy)
    assert set(grads.params) == set(params)
    for key in ("x", *(k for k, v in params.items() if v.dtype.kind == "f" and not k.endswith("correction"))):
        value, grad = (x, grads.x) if key == "x" else (params[key], grads.params[key])
        v, h = rng.standard_normal(value.shape), 1e-6
        up, down = (total(params, x + s * h * v) if key == "x" else total({**params, key: value + s * h * v}, x) for s in (1, -1))
        assert (grad * v).sum() == pytest.approx((up - down) / (2 * h), rel=1e-6, abs=1e-8), key
    assert all(not grads.params[k].any() for k in params if k.endswith("correction"))


def read_as_input(saved):
    """Selections that a program takes back as an input."""
    return {n for s in saved.trace.steps for n in set(s.reads.split()) & set(s.writes.split())}


@pytest.mark.parametrize("tokens", [(0,), (1,), (3, 0)])
@pytest.mark.parametrize("name", SPECS)
def test_few_or_no_tokens(name, tokens):
    if name == "assign" and tokens == (1,):
        tokens = (4,)                                     # as many tokens as experts
    spec = SPECS[name]
    params, x, given, _ = prepared(spec, tokens=tokens)
    out, saved = moespec.forward(spec, params, x, **given)
    grads = moespec.backward(saved, np.ones_like(out.y))
    assert out.y.shape == x.shape
    assert all(np.isfinite(g).all() for g in (grads.x, *grads.params.values()))


@pytest.mark.parametrize("name", SPECS)
def test_json_round_trip(name):
    assert LayerSpec.from_dict(json.loads(json.dumps(SPECS[name].to_dict()))) == SPECS[name]


@pytest.mark.parametrize("name", SPECS)
def test_evaluation_is_deterministic(name):
    spec = SPECS[name]
    params, x, given, _ = prepared(spec)
    a, b = (moespec.forward(spec, params, x, rng=r, context=given["context"])[0].y for r in (1, 2))
    assert np.array_equal(a, b)


# ---- formulas, by loops ----------------------------------------------------------------------------------------------

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


# ---- what is refused -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("make", "message"), [
    (lambda: LayerSpec(Router(k=3, groups=Groups(2, 1)), GLU), "k=3 exceeds the 2 experts of 1 kept groups"),
    (lambda: LayerSpec(Router(k=1, groups=Groups(3, 1)), GLU), "3 groups do not divide 4 experts"),
    (lambda: LayerSpec(Router(k=1, groups=Groups(4, 1)), GLU), "reduce='top2sum' needs two experts in a group, got 1"),
    (lambda: Groups(2, 3), "Groups: keep=3 must be in 1 .. 2"),
    (lambda: Router(over="selected", groups=Groups(2, 1)), "groups select on scores"),
    (lambda: ExpertChoice(groups=Groups(2, 1)), "groups"),
    (lambda: LayerSpec.from_dict({"router": {"type": "ExpertChoice", "groups": {"n": 2, "keep": 1}}, "experts": {"n": 4, "width": 5}}), "groups"),
    (lambda: LayerSpec.from_dict({"router": {"type": "Hard"}, "experts": {"n": 4, "width": 5}}), "type='Hard' is not one of 'Router'"),
    (lambda: Router(select="relu", correction=True), "correction=True needs select='topk'"),
    (lambda: Router(select="sparsemixer", norm="sum"), "weighs by itself"),
    (lambda: Router(select="table"), "vocab=0 must be at least 1"),
    (lambda: Router(net=Net("product_keys")), "product keys score the selected pairs"),
    (lambda: LayerSpec(Router(k=2, over="selected", net=Net("product_keys")), GLU.__class__(8, 5)), "square number of experts, got 8"),
    (lambda: LayerSpec(ExpertChoice(), GLU, Capacity()), "ExpertChoice has a capacity of its own"),
    (lambda: LayerSpec(ExpertChoice(), Experts(4, 5, copies=1)), "copies, constants, zeros and singleton experts need a Router"),
    (lambda: LayerSpec(Router(), GLU, combine="mean"), "combine='mean' needs a shared expert"),
    (lambda: LayerSpec(Router(select="relu"), GLU, shared=(Shared(4, gate="router"),)), "needs a Router with select='topk'"),
    (lambda: Shared(4, n=2), "n=2 needs gate='router'"),
    (lambda: Norm(learned=False, offset=1.0), "offset=1.0 needs learned=True"),
    (lambda: Clamp(limit=0), "Clamp: limit=0 must be greater than 0"),
    (lambda: LayerSpec(Router(correction=True), GLU, Capacity(reroute=True)), "capacity.reroute needs a Router"),
    (lambda: Given("input_ids", k=2), "without a table one id is given per token, got k=2"),
])
def test_what_does_not_go_together_is_refused_by_name(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def test_missing_context_is_named():
    spec = SPECS["hash"]
    params, x, _, _ = prepared(spec)
    with pytest.raises(ValueError, match="this layer needs context 'input_ids'"):
        moespec.forward(spec, params, x)
