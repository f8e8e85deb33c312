"""The table of public families: rows of `_rows` put together."""

from __future__ import annotations

import json
from importlib import resources

from moespec.layer import Capacity, LayerSpec, Net, Norm, Pool, Shared
from moespec.models._config import C, Times, When, make
from moespec.models._family import Family
from moespec.models._rows import (
    A1,
    A3,
    A4,
    ACT,
    CLAMP3,
    CLAMP4,
    CLAMP5,
    COUNT,
    E1,
    E1_WIDE,
    E3,
    E4,
    E5,
    E6,
    E7,
    E8,
    E11,
    E12,
    E12_SKIP,
    E13,
    E16,
    GATED,
    JITTER,
    MODEL,
    NARROW,
    OWN,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R9_SUM,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
    R16,
    R17,
    R18,
    R19,
    R20,
    R21,
    R22,
    R23,
    R24,
    R25,
    R26,
    R27,
    R28,
    R29,
    R30,
    SOME,
    STACKED,
    STACKED_WIDE,
    WIDE,
    Z1,
)

SIZES = json.loads(resources.files("moespec.models").joinpath("sizes.json").read_text())
FAMILIES: dict[str, Family] = {}


def family(names, row, router, experts, *shared, note="", losses=(), **more):
    """Enter one family, or several that have the same layer."""
    parts = make(LayerSpec, router=router, experts=experts, shared=shared, losses=losses, **more)
    for name in names.split():
        FAMILIES[name] = Family(name, row, parts, SIZES[name], note)


POOLED = (A1,)
BIASED = make(Net, bias=True)
SHARED_WIDE = make(Shared, width=WIDE, activation=ACT)

# softmax over all, then top-k
family("mixtral minimax", "R1 E1 A1", R1.but(**JITTER), E1_WIDE, losses=POOLED)
family("hunyuan_v1_moe", "R1 E1", R1, E1_WIDE, SHARED_WIDE)
family("qwen3_5_moe", "R1 E1 A1", R1, E1, GATED, losses=POOLED)
family("qwen3_vl_moe", "R1 E1 A1", R1, E1, losses=POOLED)
family("qwen2_moe qwen3_next qwen4_exp qwen3_omni_moe_talker", "R2 E1 A1", R2, E1, GATED, losses=POOLED)
family("qwen3_moe qwen3_omni_moe mellum", "R2 E1 A1", R2, E1, losses=POOLED)
family("olmoe flex_olmo", "R2 E1 A1", R2, E1_WIDE, losses=POOLED)
family("lara_mini", "R2 E1 A1", R2, E1, OWN, losses=POOLED)
family("jamba", "R3 E1 A1", R3, E1_WIDE, losses=POOLED)
family("dbrx", "R4 E14 A1", R4, E1.but(width=C("ffn_hidden_size"), activation=C("ffn_act_fn", "silu", lambda f: f["name"])), losses=POOLED,
       note="The matrices of all experts lie below each other in one; the last is stored as it is used.")

# top-k of the logits, then softmax over the chosen
family("granitemoe granitemoe_swa granitemoehybrid granitemoeshared", "R5 E1 A1", R5, E1_WIDE, losses=POOLED,
       note="A shared expert, where there is one, belongs to the decoder layer.")
family("jetmoe", "R5 E15 A1", R5, E1_WIDE, output_bias=True, losses=POOLED, note="The attention is a mixture too; not covered.")
family("aria", "R5 E2", R5.but(**MODEL), E1_WIDE.but(activation="silu"), STACKED_WIDE)
family("gpt_oss", "R5 E5 A1", R5.but(net=BIASED, **MODEL), E5.but(bias=True), losses=POOLED, note="Gate and up columns alternate.")
family("openai_privacy_filter", "R5 E5", R5.but(net=BIASED), E5.but(bias=True),
       note="The router divides by k and the block multiplies by k: together they are left out.")
family("cohere2_moe", "R6 E1", R6, E1_WIDE, STACKED_WIDE,
       combine=When(SOME, C("shared_expert_combination_strategy", "mean", {"average": "mean", "sum": "sum"}.__getitem__), "sum"))
family("llama4", "R7 E2", R7, E1_WIDE, SHARED_WIDE, note="The weight multiplies the expert's input.")

# sigmoid
family("flint", "R8 E1 A1", R8, E1, OWN, losses=POOLED)
family("minimax_m2", "R9 E1 A1", R9.but(**JITTER), E1_WIDE, losses=POOLED)
family("minimax_m3_vl", "R9 E5 A1", R9_SUM, E5, OWN.but(clamp=CLAMP5, activation="silu"), losses=POOLED)
family("step3p7", "R9 E4", R9_SUM, E4, OWN.but(clamp=CLAMP4.but(limit=C("swiglu_limits_shared", None, lambda limit: limit or None))),
       note="Limits are given per layer, 0 is none; those of the shared expert are its own.")
family("afmoe hy_v3", "R10 E1", R10, E1, STACKED)
family("dots3_note_vision", "R10 E1", R10, E1)
family("muse_spark", "R10 E10 E11", R10.but(eps=1e-15, net=make(Net, multiplier=C("output_multiplier", 1.0))), E11)
family("lfm2_moe", "R11 E1", R11, E1.but(activation="silu"))
family("laguna", "R12 E1 A1", R12, E1, OWN, losses=POOLED)
family("kolibri1", "R22 E1", R22, E1, OWN, note="The selection bias is added to the logits.")

# sigmoid with a selection bias and groups
family("deepseek_v3 deepseek_v32 bailing_hybrid dots1 kimi_linear glm4_moe glm4_moe_lite glm_moe_dsa solar_open exaone_moe", "R13 E1",
       R13, E1, STACKED)
family("glm4v_moe", "R13 E1 A1", R13, E1, STACKED, losses=POOLED)
family("axk1", "R13 E1", R13, E1, STACKED, norm=make(Norm, eps=C("rms_norm_eps", 1e-6)))
family("beam", "R13 E9", R13.but(scale_at="sum"), E1)
family("mimo_v2_flash", "R13 E1", R13, E1)
family("dots3_note", "R13 E1", R13, E1, make(Shared, activation=ACT, width=Times((C("shared_experts_intermediate_size"), COUNT))))
family("glm5_next", "R13 E3 A1", R13, E3.but(activation="silu"), STACKED.value.but(clamp=CLAMP3), losses=POOLED)
family("hy_v4 hy_v4_vl", "R13 E3", R13, E3.but(activation="silu"), STACKED)
family("nemotron_h", "R13 E7 E10", R13, E7, OWN.but(kind="ffn", activation=E7.fields["activation"]))
family("axk2", "R14 E1", R14, E1, STACKED,
       note="Scores outside the kept groups count as 0: where the biased scores inside are negative, one of them is chosen.")

# softmax with groups or a bias
family("deepseek_v2 deepseek_ocr2 unlimited_ocr", "R15 E1", R15, E1, STACKED, note="norm_topk_prob is not read.")
family("mistral4", "R16 E1", R16, E1, STACKED)
family("mistral_large4", "R16 E1", R16.but(norm="sum", dtype="float32"), E1, STACKED)
family("ernie4_5_moe", "R17 E1 A1", R17, E1, STACKED, losses=POOLED)
TEXT = C("moe_intermediate_size", then=lambda sizes: sizes[0], whole=True)
VISION = C("moe_intermediate_size", then=lambda sizes: sizes[1], whole=True)
family("ernie4_5_vl_moe", "R17 E1 A1", R17, E1.but(width=TEXT), make(Shared, width=Times((TEXT, COUNT)), activation=ACT, bias=C("use_bias", False)),
       pool=make(Pool, router=R17, experts=E1.but(width=VISION)), note="Tokens of text and of images have routers and experts of their own.")
family("longcat_flash", "R18 E12", R18, E12,
       note="The matrices of the identity experts are allocated and never read: load leaves them out, export gives zeros. "
            "A bias of the router's matrix is allocated and never added.")

# other scores
family("deepseek_v4", "R19 R20 E3 A1", When(C("mlp_layer_types", "moe", lambda kind: kind == "hash_moe"), R20, R19),
       E3.but(width=C("moe_intermediate_size|intermediate_size")),
       make(Shared, width=C("moe_intermediate_size|intermediate_size"), activation=ACT, bias=C("mlp_bias", False), clamp=CLAMP3),
       losses=POOLED, note="The first layers choose by a table of token ids; the weights are learned in all.")
family("inkling2 inkling2_loop", "R21 E6", R21, E6)
family("inkling", "R23 E1", R23, E1, make(Shared, width=NARROW, activation=ACT, gate="router", n=COUNT))
family("gemma4 diffusion_gemma", "R24 E1", R24, E1,
       note="The router and its experts alone: the decoder layer gives each an input of its own and adds a dense MLP.")
family("phimoe", "R25 E1 A1", R25, E1_WIDE, losses=POOLED, note="SparseMixer-v2.")

# capacity
family("switch_transformers", "R26 E8 A3 Z1", R26, E8,
       capacity=make(Capacity, fixed=C("expert_capacity"), scope="row", order="token"), losses=(A3, Z1))
family("nllb_moe", "R27 E8 A2", R27, E8.but(bias=True), losses=POOLED,
       note="The block passes a 0/1 mask where ids are expected; here is what its router describes.",
       capacity=make(Capacity, factor=1.0, formula="tutel", fixed=C("expert_capacity", None), eval_formula="share",
                     eval_factor=C("moe_eval_capacity_token_fraction", None, lambda f: f if f and f > 0 else None),
                     order=C("batch_prioritized_routing", "choice", lambda on: "batch" if on else "choice"),
                     reweigh=C("normalize_router_prob_before_dropping", "after", lambda on: "before" if on else "after")))

# other ways to choose
family("zaya", "R28 E12", R28, E12_SKIP)
family("doge", "R29 E13 A4", R29, E13, make(Shared, width=WIDE, activation=ACT, bias=C("mlp_bias", False)), losses=(A4,),
       note="Upstream mixes the keys of different tokens; here every token has its own.")
family("vitpose_backbone", "R30 E16", R30, E16)
