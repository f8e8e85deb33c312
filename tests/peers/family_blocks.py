"""The table of blocks that the installed transformers is asked for, and how each is called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from family_config import Config

SWIGLU = {"swiglu_alpha": 1.702, "swiglu_limit": 1.0}
LIMIT = {"swiglu_limit": 0.5}
GROUPED = {"topk_method": "group_limited_greedy", "n_group": 4, "topk_group": 2, "num_experts_per_tok": 3}
SWITCH = {"router_bias": True, "expert_capacity": 2, "router_ignore_padding_tokens": False, "router_dtype": "float32", "dropout_rate": 0.0,
          "dense_act_fn": "relu"}
NLLB = {"router_bias": False, "expert_capacity": 64, "router_ignore_padding_tokens": False, "router_dtype": "float32", "second_expert_policy": "all",
        "normalize_router_prob_before_dropping": False, "batch_prioritized_routing": False, "moe_eval_capacity_token_fraction": 0.15,
        "activation_dropout": 0.0, "activation_function": "relu", "moe_token_dropout": 0.0}
V4 = {**LIMIT, "scoring_func": "sqrtsoftplus", "mlp_layer_types": ["hash_moe", "moe"]}
SOFTCAPS = {"scoring_func": "sigmoid", "mlp_gate_softcap": 4.0, "mlp_up_softcap": 25.0}


@dataclass(frozen=True)
class Block:
    """How to build and to call one block."""

    family: str
    cls: str
    over: dict[str, Any] = field(default_factory=dict)
    args: tuple = ()
    module: str = ""
    call: Callable = lambda block, x, more: block(x)
    context: tuple[str, ...] = ()
    make: Callable | None = None
    layer: int = 0
    variant: str = ""                                         # another configuration of a block that is there already
    shift: float = 0.0                                        # of the selection bias

    @property
    def name(self):
        return self.family + (f".{self.layer}" if self.layer else "") + (f":{self.variant}" if self.variant else "")


def reshaped(block, x, more):
    """Blocks that flatten the tokens, and return a tuple."""
    return block(x)[0].reshape(x.shape)


def first(block, x, more):
    """Blocks that return a tuple."""
    return block(x)[0]


def gemma(module, config):
    """Router and experts; the decoder layer feeds them."""
    prefix = "Gemma4Text" if module.__name__.endswith("gemma4") else "DiffusionGemmaText"
    block = torch.nn.Module()
    block.router, block.experts = getattr(module, f"{prefix}Router")(config), getattr(module, f"{prefix}Experts")(config)
    config.read["top_k_experts"] = config.top_k_experts             # read when it runs
    return block


def call_gemma(block, x, more):
    _, weights, ids = block.router(x.reshape(-1, x.shape[-1]))
    return block.experts(x.reshape(-1, x.shape[-1]), ids, weights).reshape(x.shape)


def call_nllb(block, x, more):
    """What the router describes: upstream passes the 0/1 mask where ids are expected."""
    flat = x.reshape(-1, x.shape[-1])
    _, combine, _ = block.router(flat)
    every = torch.stack([block.experts[f"expert_{e}"](flat) for e in range(block.num_experts)], 1)
    return (combine[:, :, None] * every).sum(1).reshape(x.shape)


def call_doge(block, x, more):
    """Every token with its own keys: upstream views [N, 2 n] as [2, N, n], which mixes tokens."""
    own = block.router_gate

    class Reordered(torch.nn.Module):
        def forward(self, hidden):
            return own(hidden).reshape(-1, 2, block.num_keys).transpose(0, 1).reshape(*hidden.shape[:-1], -1)

    del block.router_gate
    block.router_gate = Reordered()
    try:
        return block(x)[0]
    finally:
        del block.router_gate
        block.router_gate = own


BLOCKS = {b.name: b for b in (
    Block("afmoe", "AfmoeSparseMoeBlock"),
    Block("aria", "AriaTextMoELayer"),
    Block("axk1", "AXK1MoE"),
    Block("axk2", "AXK2MoE"),
    Block("bailing_hybrid", "BailingHybridMoE"),
    Block("beam", "BeamMoE"),
    Block("cohere2_moe", "Cohere2MoeSparseMoeBlock", {"expert_selection_fn": "sigmoid", "shared_expert_combination_strategy": "average"}),
    Block("dbrx", "DbrxFFN", {"ffn_config": Config(moe_normalize_expert_weights=3.0, moe_jitter_eps=None, ffn_act_fn={"name": "silu"})}),
    Block("deepseek_ocr2", "DeepseekOcr2TextMoe", GROUPED),
    Block("deepseek_v2", "DeepseekV2Moe", GROUPED),
    Block("deepseek_v3", "DeepseekV3MoE"),
    Block("deepseek_v32", "DeepseekV32MoE"),
    Block("deepseek_v4", "DeepseekV4SparseMoeBlock", V4, (0,),
          call=lambda block, x, more: block(x, torch.tensor(more["input_ids"])), context=("input_ids",)),
    Block("deepseek_v4", "DeepseekV4SparseMoeBlock", V4, (1,), layer=1),
    Block("diffusion_gemma", "DiffusionGemmaTextExperts", make=gemma, call=call_gemma),
    Block("doge", "DogeCDMoE", {"num_experts": 16, "num_experts_per_tok": 3, "norm_topk_prob": False}, call=call_doge),
    Block("dots1", "Dots1MoE"),
    Block("dots3_note", "Dots3NoteTextMoE"),
    Block("dots3_note_vision", "Dots3NoteVisionMoE", {"per_layer_config": [Config()]}, (0,), module="dots3_note"),
    Block("ernie4_5_moe", "Ernie4_5_MoeSparseMoeBlock", {"moe_norm_min": 1e-12}),
    Block("ernie4_5_vl_moe", "Ernie4_5_VLMoeMoeBlock", {"moe_norm_min": 1e-12, "moe_intermediate_size": [24, 16]},
          call=lambda block, x, more: block(x, torch.tensor(more["moe_mm_token_type_ids"]))[0], context=("moe_mm_token_type_ids",)),
    Block("exaone_moe", "ExaoneMoeSparseMoEBlock"),
    Block("flex_olmo", "FlexOlmoSparseMoeBlock"),
    Block("flint", "FlintSparseMoeBlock"),
    Block("gemma4", "Gemma4TextExperts", make=gemma, call=call_gemma),
    Block("glm4_moe", "Glm4MoeMoE"),
    Block("glm4_moe_lite", "Glm4MoeLiteMoE"),
    Block("glm4v_moe", "Glm4vMoeTextMoE"),
    Block("glm5_next", "Glm5NextTextMoE", LIMIT),
    Block("glm_moe_dsa", "GlmMoeDsaMoE"),
    Block("gpt_oss", "GptOssMLP", SWIGLU, call=first),
    Block("granitemoe", "GraniteMoeMoE"),
    Block("granitemoe_swa", "GraniteMoeSWAMoE"),
    Block("granitemoehybrid", "GraniteMoeHybridMoE"),
    Block("granitemoeshared", "GraniteMoeSharedMoE"),
    Block("hunyuan_v1_moe", "HunYuanMoEV1Moe", args=(0,)),
    Block("hy_v3", "HYV3MoE", {"enable_moe_fp32_combine": True}),
    Block("hy_v4", "HYV4MoE", LIMIT),
    Block("hy_v4_vl", "HYV4VLMoE", LIMIT),
    Block("inkling", "InklingMoE", {"n_shared_experts": 2}),
    Block("inkling2", "Inkling2SparseMoeBlock", SOFTCAPS),
    Block("inkling2_loop", "Inkling2LoopSparseMoeBlock", SOFTCAPS),
    Block("jamba", "JambaSparseMoeBlock"),
    Block("jetmoe", "JetMoeMoE"),
    Block("kimi_linear", "KimiLinearMoE"),
    Block("kolibri1", "Kolibri1SparseMoeBlock"),
    Block("laguna", "LagunaSparseMoeBlock", {"moe_router_logit_softcapping": 2.0}),
    Block("lara_mini", "LaraMiniSparseMoeBlock"),
    Block("lfm2_moe", "Lfm2MoeSparseMoeBlock", {"use_expert_bias": True}),
    Block("llama4", "Llama4TextMoe", {"num_experts_per_tok": 1}, call=reshaped),
    Block("longcat_flash", "LongcatFlashMoE", {"zero_expert_num": 4, "num_experts_per_tok": 3}),
    Block("mellum", "MellumSparseMoeBlock"),
    Block("mimo_v2_flash", "MiMoV2FlashMoE"),
    Block("minimax", "MiniMaxSparseMoeBlock"),
    Block("minimax_m2", "MiniMaxM2SparseMoeBlock"),
    Block("minimax_m3_vl", "MiniMaxM3VLSparseMoeBlock", SWIGLU),
    Block("mistral4", "Mistral4MoE", {"n_group": 4, "topk_group": 2}),
    Block("mistral_large4", "MistralLarge4TextMoE", {"n_group": 4, "topk_group": 2}),
    Block("mixtral", "MixtralSparseMoeBlock"),
    Block("muse_spark", "MuseSparkMoE", {"moe_hidden_size": 16, "output_multiplier": 0.5}),
    Block("nemotron_h", "NemotronHMoE", {"moe_latent_size": 16}),
    Block("nllb_moe", "NllbMoeSparseMLP", NLLB, ("f",), call=call_nllb),
    Block("olmoe", "OlmoeSparseMoeBlock"),
    Block("openai_privacy_filter", "OpenAIPrivacyFilterMLP", SWIGLU, call=first),
    Block("phimoe", "PhimoeSparseMoeBlock", {"router_jitter_noise": 0.1}),
    Block("qwen2_moe", "Qwen2MoeSparseMoeBlock", {"norm_topk_prob": False}),
    Block("qwen3_5_moe", "Qwen3_5MoeSparseMoeBlock"),
    Block("qwen3_moe", "Qwen3MoeSparseMoeBlock"),
    Block("qwen3_next", "Qwen3NextSparseMoeBlock"),
    Block("qwen3_omni_moe", "Qwen3OmniMoeThinkerTextSparseMoeBlock"),
    Block("qwen3_omni_moe_talker", "Qwen3OmniMoeTalkerTextSparseMoeBlock", module="qwen3_omni_moe"),
    Block("qwen3_vl_moe", "Qwen3VLMoeTextSparseMoeBlock"),
    Block("qwen4_exp", "Qwen4ExpTextSparseMoeBlock"),
    Block("solar_open", "SolarOpenMoE"),
    Block("step3p7", "Step3p7SparseMoeBlock", {"swiglu_limits": [0.5], "swiglu_limits_shared": [0.25]}, (0,)),
    Block("switch_transformers", "SwitchTransformersSparseMLP", SWITCH),
    Block("unlimited_ocr", "UnlimitedOcrTextMoe", {"topk_method": "greedy"}),
    Block("vitpose_backbone", "VitPoseBackboneMoeMLP", {"mlp_ratio": 2, "part_features": 6, "hidden_act": "gelu", "num_experts": 4},
          call=lambda block, x, more: block(x, torch.tensor(more["dataset_index"])), context=("dataset_index",)),
    Block("zaya", "ZayaSparseMoeBlock", {"router_hidden_size": 16}, (1,), layer=1,
          call=lambda block, x, more: block(x, torch.tensor(more["router_states"]))[0], context=("router_states",)),
    Block("aria", "AriaTextMoELayer", {"mlp_bias": True}, variant="biases"),
    Block("axk2", "AXK2MoE", {"n_group": 4, "topk_group": 3}, variant="negative scores", shift=-2.0),      # both masked experts win: no tie decides
    Block("axk2", "AXK2MoE", {"n_group": None, "topk_group": None}, variant="no groups"),
    Block("cohere2_moe", "Cohere2MoeSparseMoeBlock", {"expert_selection_fn": "softmax", "shared_expert_combination_strategy": "sum"},
          variant="softmax"),
    Block("cohere2_moe", "Cohere2MoeSparseMoeBlock", {"expert_selection_fn": "sigmoid", "norm_topk_prob": False, "num_shared_experts": 0,
                                                      "shared_expert_combination_strategy": "average"}, variant="alone"),
    Block("dbrx", "DbrxFFN", {"ffn_config": Config(moe_normalize_expert_weights=None, moe_jitter_eps=None, ffn_act_fn={"name": "gelu"})},
          variant="raw"),
    Block("deepseek_v3", "DeepseekV3MoE", {"n_group": 4, "topk_group": 2, "num_experts_per_tok": 3, "norm_topk_prob": False}, variant="two of four"),
    Block("deepseek_v3", "DeepseekV3MoE", {"n_group": 1, "topk_group": 1, "num_experts_per_tok": 4}, variant="one group"),
    Block("deepseek_v3", "DeepseekV3MoE", {"n_group": 4, "topk_group": 2, "num_experts_per_tok": 4}, variant="negative scores", shift=-0.75),
    Block("deepseek_v2", "DeepseekV2Moe", {"topk_method": "greedy", "n_shared_experts": 2}, variant="greedy"),
    Block("deepseek_v4", "DeepseekV4SparseMoeBlock", {**V4, "scoring_func": "sigmoid", "mlp_bias": True}, (1,), layer=1, variant="sigmoid"),
    Block("ernie4_5_moe", "Ernie4_5_MoeSparseMoeBlock", {"moe_norm_min": 1e-12, "use_bias": True, "moe_num_shared_experts": 2}, variant="biases"),
    Block("ernie4_5_moe", "Ernie4_5_MoeSparseMoeBlock", {"moe_norm_min": 0.5, "moe_num_shared_experts": 0}, variant="clamped"),
    Block("laguna", "LagunaSparseMoeBlock", {"moe_router_logit_softcapping": 0.0}, variant="no cap"),
    Block("lfm2_moe", "Lfm2MoeSparseMoeBlock", {"use_expert_bias": False, "norm_topk_prob": False}, variant="no bias"),
    Block("llama4", "Llama4TextMoe", {"num_experts_per_tok": 2}, call=reshaped, variant="two"),
    Block("mistral4", "Mistral4MoE", {"n_group": 1, "topk_group": 1, "norm_topk_prob": False}, variant="one group"),
    Block("nemotron_h", "NemotronHMoE", {"moe_latent_size": None, "mlp_bias": True}, variant="wide"),
    Block("nllb_moe", "NllbMoeSparseMLP", {**NLLB, "normalize_router_prob_before_dropping": True}, ("f",), call=call_nllb,
          variant="before"),
    Block("nllb_moe", "NllbMoeSparseMLP", {**NLLB, "batch_prioritized_routing": True, "router_bias": True}, ("f",), call=call_nllb,
          variant="priority"),
    Block("nllb_moe", "NllbMoeSparseMLP", {**NLLB, "moe_eval_capacity_token_fraction": 0.0, "expert_capacity": 5}, ("f",), call=call_nllb,
          variant="fixed"),
    Block("phimoe", "PhimoeSparseMoeBlock", {"router_jitter_noise": 0.01}, variant="narrow"),
    Block("qwen2_moe", "Qwen2MoeSparseMoeBlock", variant="normalised"),
    Block("qwen3_moe", "Qwen3MoeSparseMoeBlock", {"norm_topk_prob": False, "num_experts_per_tok": 8, "hidden_act": "gelu"}, variant="all"),
    Block("step3p7", "Step3p7SparseMoeBlock", {"swiglu_limits": None, "swiglu_limits_shared": [0.0]}, (0,), variant="no limits"),
    Block("switch_transformers", "SwitchTransformersSparseMLP", {**SWITCH, "router_bias": False, "expert_capacity": 64}, variant="roomy"),
    Block("zaya", "ZayaSparseMoeBlock", {"router_hidden_size": 16, "num_experts_per_tok": 3}, (0,), call=first, variant="first layer"),
)}
