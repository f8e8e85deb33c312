"""Routers of transformers against the same routers in named steps: weights as a dense matrix, gradients of x and of the parameters."""

from types import SimpleNamespace

import numpy as np
import pytest

from moespec import gates, program
from moespec.indexing import take, untake
from moespec.op import Step

T, D, E, K = 24, 16, 8, 3
SUM = {"norm": "sum", "eps": 1e-20, "scale": 1.5}
GROUPS = {"k": K, "groups": 4, "keep": 2}
CONFIG = {
    "num_experts_per_tok": K, "num_local_experts": E, "n_routed_experts": E, "num_experts": E, "hidden_size": D, "routed_scaling_factor": 1.5,
    "n_group": 4, "topk_group": 2, "norm_topk_prob": True, "topk_method": "group_limited_greedy", "scoring_func": "sqrtsoftplus", "vocab_size": 11,
    "n_shared_experts": 2, "route_scale": 1.5, "rms_norm_eps": 1e-6, "top_k_experts": K}


def scored(score, select=None, weigh=SUM, bias="-"):
    """linear, score, selection, gather, weights."""
    return (Step("gates.linear", "x w", "logits"), Step(f"gates.{score}", "logits", "scores"),
            Step("gates.select", f"scores {bias}", "indices", select or {"k": K}),
            Step("gates.gather", "scores indices", "chosen"), Step("gates.renormalize", "chosen indices", "weights", weigh))


HASHED = (Step("gates.linear", "x w", "logits"), Step("gates.sqrt_softplus", "logits", "scores"), Step("gates.lookup", "tokens table", "indices"),
          Step("gates.gather", "scores indices", "chosen"), Step("gates.renormalize", "chosen indices", "weights", SUM))
GEMMA4 = (Step("gates.rms_norm", "x scale", "normed", {"factor": D**-0.5}), Step("gates.linear", "normed w", "logits"),
          Step("gates.route", "logits", "indices shares", {"k": K, "norm": "sum"}),
          Step("gates.scale_experts", "shares indices per_expert_scale", "weights"))
ROUTERS = {
    "deepseek_v3": ("DeepseekV3TopkRouter", scored("sigmoid", GROUPS, bias="bias")),
    "axk2": ("AXK2TopkRouter", scored("sigmoid", {**GROUPS, "fill": 0.0}, bias="bias")),
    "deepseek_v2": ("DeepseekV2TopkRouter", scored("softmax", {**GROUPS, "reduce": "max", "fill": 0.0}, {"scale": 1.5})),
    "mistral4": ("Mistral4TopkRouter", scored("softmax", {**GROUPS, "fill": 0.0})),
    "deepseek_v4": ("DeepseekV4TopKRouter", scored("sqrt_softplus", bias="bias")),
    "deepseek_v4_hash": ("DeepseekV4HashRouter", HASHED),
    "gemma4": ("Gemma4TextRouter", GEMMA4),
}


def theirs(family, name):
    """Their router with random parameters and a correction bias of both signs, in float32."""
    import importlib

    import torch
    folder = family.removesuffix("_hash")
    module = importlib.import_module(f"transformers.models.{folder}.modeling_{folder}")
    router = getattr(module, name)(SimpleNamespace(**CONFIG))
    generator = torch.Generator().manual_seed(3)
    for p in (*router.parameters(), *(b for b in router.buffers() if b.is_floating_point())):
        p.data.normal_(0, 0.5, generator=generator)
    for b in router.buffers():
        if not b.is_floating_point():
            b.copy_(torch.randint(0, E, b.shape, generator=generator))
    return router


@pytest.mark.parametrize("family", ROUTERS)
def test_router(family):
    import torch
    name, steps = ROUTERS[family]
    router, rng = theirs(family, name), np.random.default_rng(0)
    x, tokens, dense = rng.standard_normal((T, D)).astype("float32"), rng.integers(0, 11, T), rng.standard_normal((T, E)).astype("float32")
    given = torch.from_numpy(x.copy()).requires_grad_()
    _, w, ids = router(given, torch.from_numpy(tokens)) if family.endswith("hash") else router(given)
    (w * torch.from_numpy(dense).gather(1, ids)).sum().backward()

    arrays = {n: a.detach().numpy() for n, a in (*router.named_parameters(), *router.named_buffers())}
    matrix = "proj.weight" if family == "gemma4" else "weight"
    values = {"x": x, "w": arrays[matrix].T, "bias": arrays.get("e_score_correction_bias"), "tokens": tokens, "table": arrays.get("tid2eid"),
              "scale": arrays.get("scale"), "per_expert_scale": arrays.get("per_expert_scale")}
    trace = program.run(steps, values)
    found = trace.values
    grads = program.run_backward(trace, {"weights": take(dense, found["indices"])})
    np.testing.assert_allclose(untake(found["weights"], found["indices"], E), untake(w.detach().numpy(), ids.numpy(), E), rtol=2e-5, atol=1e-7)
    np.testing.assert_allclose(grads["x"], given.grad.numpy(), rtol=1e-4, atol=2e-6)
    for ours, name in (("w", matrix), ("scale", "scale"), ("per_expert_scale", "per_expert_scale")):
        if ours in grads:
            got = dict(router.named_parameters())[name].grad.numpy()
            np.testing.assert_allclose(grads[ours].T, got, rtol=1e-4, atol=5e-6)


def test_inkling_weighs_shared_experts_together_with_the_chosen():
    import torch
    router, rng = theirs("inkling", "InklingTopkRouter"), np.random.default_rng(0)
    x = rng.standard_normal((T, D)).astype("float32")
    _, w, ids, gammas = router(torch.from_numpy(x))
    (w.sum() + (gammas * torch.tensor([1.0, -2.0])).sum()).backward()
    logits, by_logits = gates.linear(x, router.weight.detach().numpy().T)
    scores, by_scores = gates.sigmoid(logits)
    chosen, by_choice = gates.gather(scores, ids.numpy())
    found, by_weights = gates.joint_weights(chosen, scores[:, E:], ids.numpy(), scale=1.5)
    scale = router.global_scale.detach().numpy().reshape(())
    ours, by_scale = gates.scale_weights(found.weights, scale)
    shared, by_shared = gates.scale_weights(found.shared_weights, scale)
    np.testing.assert_allclose(ours, w.detach().numpy(), rtol=2e-5)
    np.testing.assert_allclose(shared, gammas.detach().numpy(), rtol=2e-5)
    picked, _ = gates.select(scores[:, :E], router.e_score_correction_bias.numpy(), k=K)
    assert np.array_equal(np.sort(picked, 1), np.sort(ids.numpy(), 1))

    dweights, dscale = gates.scale_weights_backward(by_scale, np.ones_like(ours))
    dshared, other = gates.scale_weights_backward(by_shared, np.tile(np.float32([1, -2]), (T, 1)))
    dchosen, dshared = gates.joint_weights_backward(by_weights, dweights, dshared)
    dscores = gates.gather_backward(by_choice, dchosen)
    dscores[:, E:] += dshared
    _, dw, _ = gates.linear_backward(by_logits, gates.sigmoid_backward(by_scores, dscores))
    np.testing.assert_allclose(dw.T, router.weight.grad.numpy(), rtol=1e-4, atol=2e-6)
    np.testing.assert_allclose(dscale + other, router.global_scale.grad.numpy()[0], rtol=1e-4)


@pytest.mark.parametrize("eps", [0.01, 0.3, 2.0])
@pytest.mark.parametrize("training", [False, True])
def test_phimoe_sparsemixer(eps, training):
    import torch
    from transformers.models.phimoe.modeling_phimoe import sparsemixer
    rng = np.random.default_rng(1)
    logits, dw = rng.standard_normal((200, 6)), rng.standard_normal((200, 2))
    given = torch.from_numpy(logits.copy()).requires_grad_()
    torch.manual_seed(5)
    w, ids = sparsemixer(given, eps, training)
    (w * torch.from_numpy(dw)).sum().backward()
    noise, heun = _their_draws(logits.shape) if training else (None, None)
    (found, weights), saved = gates.sparsemixer(logits, None, noise, heun, k=2, eps=eps)
    assert np.array_equal(found, ids.numpy())
    np.testing.assert_allclose(weights, w.detach().numpy(), rtol=1e-7)             # their 0.3333 is a float32
    np.testing.assert_allclose(gates.sparsemixer_backward(saved, dw), given.grad.numpy(), atol=1e-14)


def _their_draws(shape):
    """What `sparsemixer` draws, in its order: noise and factor, twice; its second factor is drawn anew over a first draw."""
    import torch
    torch.manual_seed(5)
    empty, column = torch.empty(shape, dtype=torch.float64), torch.empty(shape[0], 1, dtype=torch.float64)
    noise, heun = [-empty.clone().exponential_().log()], [torch.rand_like(column)]
    noise.append(-empty.clone().exponential_().log())
    heun.append(torch.rand_like(column).uniform_())
    return torch.stack(noise, 1).numpy(), torch.cat(heun, 1).numpy()
