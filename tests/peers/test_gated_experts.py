"""The expert modules of five models of transformers that bend SwiGLU: output and all gradients, float64."""

from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest

from moespec import experts

D, F, E, K, T = 6, 5, 4, 2, 33
# class, their settings, ours, how near: Inkling 2 adds its choices up in float32
MODELS = {
    "gpt_oss": ("GptOssExperts", {"swiglu_alpha": 1.702, "swiglu_limit": 1.5}, {"alpha": 1.702, "limit": 1.5, "up_offset": 1.0}, 1e-12),
    "minimax_m3_vl": ("MiniMaxM3VLExperts", {"swiglu_alpha": 1.702, "swiglu_limit": 1.5},
                      {"alpha": 1.702, "limit": 1.5, "up_offset": 1.0}, 1e-12),
    "deepseek_v4": ("DeepseekV4Experts", {"hidden_act": "silu", "swiglu_limit": 0.75}, {"limit": 0.75}, 1e-12),
    "step3p7": ("Step3p7Experts", {"hidden_act": "silu", "swiglu_limit": 0.75}, {"limit": 0.75, "limit_at": "post"}, 1e-12),
    "inkling2": ("Inkling2Experts", {"mlp_gate_softcap": 0.5, "mlp_up_softcap": 2.0}, {"cap_gate": 0.5, "cap_up": 2.0}, 1e-6),
}
WIDTHS = {"hidden_size": D, "intermediate_size": F, "moe_intermediate_size": F, "num_local_experts": E, "num_experts": E,
          "n_routed_experts": E, "moe_num_experts": E, "_experts_implementation": "eager"}


def module(model):
    from blocks import randomised
    name, settings, *_ = MODELS[model]
    config = SimpleNamespace(**WIDTHS, **settings)
    given = {"swiglu_limit": settings["swiglu_limit"]} if model == "step3p7" else {}
    return randomised(getattr(import_module(f"transformers.models.{model}.modeling_{model}"), name)(config, **given), seed=3)


def to_moespec(model, p):
    """Their parameters (or gradients) under our names: interleaved or one after the other, transposed or not."""
    fused, down = p["gate_up_proj"], p["down_proj"]
    if model == "gpt_oss":
        b = p["gate_up_proj_bias"]
        return {"w_gate": fused[..., ::2], "w_up": fused[..., 1::2], "w_down": down, "b_gate": b[:, ::2], "b_up": b[:, 1::2],
                "b_down": p["down_proj_bias"]}
    fused = np.swapaxes(fused, 1, 2)
    return {"w_gate": fused[..., :F], "w_up": fused[..., F:], "w_down": np.swapaxes(down, 1, 2)}


@pytest.mark.parametrize("model", MODELS)
def test_output_and_all_gradients(model):
    import torch
    from blocks import all_float64, arrays, relative
    block, rng, (*_, attrs, near) = module(model), np.random.default_rng(5), MODELS[model]
    ids = np.argsort(rng.random((T, E)), axis=1)[:, :K]
    x, weights, dy = (rng.standard_normal(s) for s in ((T, D), (T, K), (T, D)))
    tensors = [torch.from_numpy(a.copy()).requires_grad_() for a in (x, weights)]
    with all_float64():
        theirs = block(tensors[0], torch.from_numpy(ids.copy()), tensors[1])
        (theirs * torch.from_numpy(dy.copy())).sum().backward()

    params = to_moespec(model, arrays(block))
    y, saved = experts.moe(x, ids, weights, **params, **attrs)
    dx, dweights, *dparams = experts.moe_backward(saved, dy)
    bent = experts.moe(x, ids, weights, **params)[0]
    assert relative(y, theirs.detach().numpy()) < near
    assert relative(bent, y) > 1e-2                                          # the settings do something
    assert relative(dx, tensors[0].grad.numpy()) < near
    assert relative(dweights, tensors[1].grad.numpy()) < near
    wanted = to_moespec(model, {n: p.grad.numpy() for n, p in block.named_parameters()})
    for name, got in zip(("w_gate", "w_up", "w_down", "b_gate", "b_up", "b_down"), dparams, strict=True):
        assert got is None if name not in wanted else relative(got, wanted[name]) < near, name
