"""Blocks of transformers with experts that are no networks, weights on the input, a bias or a gate of their own; float64."""

from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest

from moespec import dispatch, experts

D, F, E, K, T = 6, 5, 4, 2, 21
TIGHT = 1e-12


def module(model, name, **settings):
    from blocks import randomised
    config = SimpleNamespace(hidden_size=D, intermediate_size=F, num_experts_per_tok=K, num_local_experts=E, hidden_act="silu",
                             _experts_implementation="eager", **settings)
    return randomised(getattr(import_module(f"transformers.models.{model}.modeling_{model}"), name)(config), seed=3)


def run(block, *inputs):
    """(y, gradients of the real inputs and of the parameters) for a cotangent of ones."""
    import torch
    from blocks import all_float64
    given = [torch.from_numpy(a.copy()).requires_grad_(a.dtype == np.float64) for a in inputs]
    with all_float64():
        y = block(*given)
        y = y[0] if isinstance(y, tuple) else y
        y.sum().backward()
    grads = [None if g.grad is None else g.grad.numpy() for g in given]
    return y.detach().numpy(), grads, {n: p.grad.numpy() for n, p in block.named_parameters() if p.grad is not None}


def parts(fused, down):
    """Their [up after gate] storage as three matrices."""
    fused = np.swapaxes(fused, 1, 2)
    return {"w_gate": fused[..., :F], "w_up": fused[..., F:], "w_down": np.swapaxes(down, 1, 2)}


def test_longcat_identity_experts():
    """Ids from 4 on give the token itself; their gate and up projections are stored all the same."""
    from blocks import arrays, relative
    block = module("longcat_flash", "LongcatFlashExperts", expert_ffn_hidden_size=F, n_routed_experts=E, zero_expert_num=3)
    rng = np.random.default_rng(2)
    x, weights, ids = rng.standard_normal((T, D)), rng.standard_normal((T, K)), rng.integers(0, E + 3, (T, K))
    theirs, (dx, _, dweights), grads = run(block, x, ids, weights)
    p = arrays(block)
    y, saved = experts.moe(x, np.where(ids < E, ids, -1), weights, **parts(p["gate_up_proj"][:E], p["down_proj"]))
    copied, kept = experts.copy(x, ids, weights, first=E)
    ones = np.ones_like(x)
    assert relative(y + copied, theirs) < TIGHT
    ours, of_copies = experts.moe_backward(saved, ones), experts.copy_backward(kept, ones)
    assert relative(ours[0] + of_copies[0], dx) < TIGHT
    assert relative(ours[1] + of_copies[1], dweights) < TIGHT
    assert relative(ours[4], np.swapaxes(grads["down_proj"], 1, 2)) < TIGHT


def test_doge_experts_of_one_neuron():
    """Its block without its shared expert; the routing is read off the block, by its own rule."""
    import torch
    from blocks import arrays, relative
    block, n = module("doge", "DogeCDMoE", mlp_bias=False, num_experts=25, norm_topk_prob=False), 5
    block.down_proj.weight.data.zero_()
    rng = np.random.default_rng(3)
    x = rng.standard_normal((1, T, D))
    theirs, (_,), grads = run(block, x)
    first, second = block.router_gate(torch.from_numpy(x)).view(2, T, -1).detach().numpy()
    pairs = (first[:, :, None] + second[:, None]).reshape(T, n * n)
    ids = np.argsort(-pairs, axis=1)[:, :K]
    weights = np.exp(np.take_along_axis(pairs, ids, 1))
    p = arrays(block)
    y, saved = experts.singleton(x[0], ids, weights / weights.sum(1, keepdims=True), p["down_embed.weight"], p["up_embed.weight"],
                                 activation="silu")
    assert relative(y, theirs[0]) < TIGHT
    _, _, dw_in, dw_out = experts.singleton_backward(saved, np.ones_like(y))
    assert relative(dw_in, grads["down_embed.weight"]) < TIGHT
    assert relative(dw_out, grads["up_embed.weight"]) < TIGHT


def test_llama4_weighs_what_goes_into_the_experts():
    from blocks import arrays, relative
    block = module("llama4", "Llama4TextMoe")
    rng = np.random.default_rng(4)
    x = rng.standard_normal((T, D))
    theirs, (dx,), grads = run(block, x)
    p = arrays(block)
    logits = x @ p["router.weight"].T
    ids = np.argsort(-logits, axis=1)[:, :K]
    weights = 1 / (1 + np.exp(-np.take_along_axis(logits, ids, 1)))
    fused, down = p["experts.gate_up_proj"], p["experts.down_proj"]
    (token, row, offsets), _ = dispatch.plan(ids, experts=E)
    rows, permuted = dispatch.permute(x, token)
    weighed, weighing = dispatch.weigh_rows(rows, weights, row)
    out, routed = experts.glu(weighed, offsets, fused[..., :F], fused[..., F:], down)
    together, combined = dispatch.combine(out, np.ones((T, K)), row)
    w = [p[f"shared_expert.{n}_proj.weight"].T[None] for n in ("gate", "up", "down")]
    beside, shared = experts.glu(x, np.array([0, T]), *w)
    y, added = dispatch.add(together, beside)
    assert relative(y, theirs) < TIGHT
    dtogether, dbeside = dispatch.add_backward(added, np.ones_like(y))
    dweighed, *dparams = experts.glu_backward(routed, dispatch.combine_backward(combined, dtogether)[0])
    drows, dweights = dispatch.weigh_rows_backward(weighing, dweighed)
    dlogits = np.zeros_like(logits)
    np.put_along_axis(dlogits, ids, dweights * weights * (1 - weights), 1)
    assert relative(dparams[2], grads["experts.down_proj"]) < TIGHT
    assert relative(dlogits.T @ x, grads["router.weight"]) < TIGHT
    total = dispatch.permute_backward(permuted, drows) + experts.glu_backward(shared, dbeside)[0] + dlogits @ p["router.weight"]
    assert relative(total, dx) < TIGHT


@pytest.mark.parametrize("index", range(3))
def test_vitpose_experts_of_a_partial_width(index):
    from blocks import arrays, relative
    block = module("vitpose_backbone", "VitPoseBackboneMoeMLP", mlp_ratio=2, num_experts=3, part_features=2)
    rng = np.random.default_rng(index)
    x = rng.standard_normal((1, T, D))
    theirs, *_ = run(block, x, np.array([index]))
    p, all_rows = arrays(block), np.array([0, T])
    hidden = experts.linear(x[0], all_rows, p["fc1.weight"].T[None], p["fc1.bias"][None])[0]
    hidden = experts.silu(hidden)[0]
    shared = experts.linear(hidden, all_rows, p["fc2.weight"].T[None], p["fc2.bias"][None])[0]
    (token, row, offsets), _ = dispatch.plan(np.full((T, 1), index), experts=3)
    w, b = np.stack([p[f"experts.{e}.weight"].T for e in range(3)]), np.stack([p[f"experts.{e}.bias"] for e in range(3)])
    own = dispatch.combine(experts.linear(dispatch.permute(hidden, token)[0], offsets, w, b)[0], np.ones((T, 1)), row)[0]
    assert relative(dispatch.concat(shared, own)[0], theirs[0]) < TIGHT
