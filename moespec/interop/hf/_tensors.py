"""Which tensors every family has: names below the layer's prefix, and how they are laid out."""

from __future__ import annotations

from moespec.interop.hf._layout import Tensor

Tensors = tuple[Tensor, ...]


def linear(name, param, rank=2, bias=None):
    """A torch linear layer [out, in], and its bias."""
    made = (Tensor(f"{name}.weight", (param,), swap=True, rank=rank),)
    return made + ((Tensor(f"{name}.bias", (bias,), rank=1),) if bias else ())


def mlp(prefix, param, gate="gate_proj", up="up_proj", down="down_proj"):
    """A dense gated unit of three linear layers; its biases are left out where the declaration has none."""
    return (*linear(f"{prefix}{gate}", f"{param}.w_gate", bias=f"{param}.b_gate"), *linear(f"{prefix}{up}", f"{param}.w_up", bias=f"{param}.b_up"),
            *linear(f"{prefix}{down}", f"{param}.w_down", bias=f"{param}.b_down"))


def plain(prefix, param, up="up_proj", down="down_proj"):
    """A dense unit of two linear layers."""
    return (*linear(f"{prefix}{up}", f"{param}.w_in", bias=f"{param}.b_in"), *linear(f"{prefix}{down}", f"{param}.w_out", bias=f"{param}.b_out"))


def fused(prefix="experts.", down="down_proj", gate_up="gate_up_proj", of="experts", spare=False):
    """[E, 2F, D] and [E, D, F]."""
    return (Tensor(f"{prefix}{gate_up}", (f"{of}.w_gate", f"{of}.w_up"), swap=True, split="parts", axis=-2, spare=spare),
            Tensor(f"{prefix}{down}", (f"{of}.w_down",), swap=True))


def transposed(split):
    """[E, D, 2F] and [E, F, D], with biases where the declaration has them."""
    return (Tensor("experts.gate_up_proj", ("experts.w_gate", "experts.w_up"), split=split),
            Tensor("experts.down_proj", ("experts.w_down",)),
            Tensor("experts.gate_up_proj_bias", ("experts.b_gate", "experts.b_up"), split=split),
            Tensor("experts.down_proj_bias", ("experts.b_down",)))


def separate(gate, up, down, prefix="experts.{e}."):
    """One module per expert, of three linear layers."""
    return tuple(Tensor(f"{prefix}{name}.weight", (f"experts.{param}",), swap=True)
                 for name, param in ((gate, "w_gate"), (up, "w_up"), (down, "w_down")))


def modules(first, second):
    """One module per expert, of two linear layers."""
    named = ((first, "w_in", "b_in"), (second, "w_out", "b_out"))
    return tuple(t for name, w, b in named for t in (Tensor(f"experts.expert_{{e}}.{name}.weight", (f"experts.{w}",), swap=True),
                                                     Tensor(f"experts.expert_{{e}}.{name}.bias", (f"experts.{b}",))))


def correction(name, rank=1):
    """A selection bias."""
    return (Tensor(name, ("router.correction",), rank=rank),)


GATE = linear("gate", "router.w")
ROUTER = linear("router", "router.w", bias="router.b")
BIASED = (*GATE, *correction("gate.e_score_correction_bias"))
SHARED = mlp("shared_experts.", "shared.0")
ONE = mlp("shared_expert.", "shared.0")
PLAIN = (*GATE, *fused())
DEEPSEEK = (*BIASED, *fused(), *SHARED)
GATED = (*PLAIN, *ONE, *linear("shared_expert_gate", "shared.0.gate"))
ON_DISK = separate("gate_proj", "up_proj", "down_proj")    # what most published files hold instead of the fused tensors
MIXTRAL = separate("w1", "w3", "w2")
GEMMA = (Tensor("router.scale", ("router.norm_scale",)), *linear("router.proj", "router.w"),
         Tensor("router.per_expert_scale", ("router.expert_scale",)))
ERNIE = lambda of: (*linear(f"{of}gate", "router.w"), *correction(f"{of}gate.moe_statics.e_score_correction_bias", 2))      # noqa: E731


def pooled(tensors):
    """The same tensors for the second pool."""
    return tuple(Tensor(t.name.replace("text_moe", "vision_moe"), tuple(f"pool.{p}" for p in t.params), t.swap, t.split, t.axis, t.flat, t.rank)
                 for t in tensors)


ERNIE_TEXT = (*ERNIE("text_moe."), *fused("text_moe.experts."))
_TABLE = {
    "mixtral minimax qwen3_moe qwen3_omni_moe qwen3_vl_moe mellum olmoe flex_olmo": PLAIN,
    "hunyuan_v1_moe": (*linear("gate.wg", "router.w"), *fused(), *mlp("shared_mlp.", "shared.0")),
    "qwen2_moe qwen3_next qwen3_5_moe qwen4_exp qwen3_omni_moe_talker": GATED,
    "flint lara_mini": (*PLAIN, *ONE),
    "jamba granitemoe granitemoe_swa granitemoehybrid granitemoeshared phimoe": (*ROUTER, *fused()),
    "dbrx": (*linear("router.layer", "router.w"), Tensor("experts.mlp.w1", ("experts.w_gate",), swap=True, flat=True),
             Tensor("experts.mlp.v1", ("experts.w_up",), swap=True, flat=True), Tensor("experts.mlp.w2", ("experts.w_down",), flat=True)),
    "jetmoe": (*linear("router.layer", "router.w"), *fused("", "output_linear.weight", "input_linear.weight"), Tensor("bias", ("output.b",))),
    "aria": (*ROUTER, *transposed("parts"), *SHARED),
    "gpt_oss": (*ROUTER, *transposed("alternating")),
    "openai_privacy_filter": (*ROUTER, *transposed("parts")),
    "cohere2_moe deepseek_v2 deepseek_ocr2 unlimited_ocr mistral4 mistral_large4": (*PLAIN, *SHARED),
    "llama4": (*ROUTER, *transposed("parts"), *ONE),
    "minimax_m2": (*PLAIN, *correction("e_score_correction_bias")),
    "minimax_m3_vl": (*BIASED, *fused(), Tensor("shared_experts.gate_up_proj.weight", ("shared.0.w_gate", "shared.0.w_up"), swap=True, split="parts",
                                                axis=-2, rank=2), *linear("shared_experts.down_proj", "shared.0.w_down")),
    "deepseek_v3 deepseek_v32 bailing_hybrid dots1 kimi_linear glm4_moe glm4_moe_lite glm_moe_dsa solar_open exaone_moe glm4v_moe glm5_next "
    "hy_v4 hy_v4_vl axk2 dots3_note step3p7 laguna kolibri1 beam mimo_v2_flash inkling2 inkling2_loop": DEEPSEEK,
    "axk1": (*DEEPSEEK, Tensor("post_mlp_layernorm.weight", ("norm.scale",))),
    "afmoe": (*linear("router.gate", "router.w"), *correction("expert_bias"), *fused(), *SHARED),
    "hy_v3 dots3_note_vision": (*PLAIN, *correction("e_score_correction_bias"), *SHARED),
    "muse_spark": (*BIASED, *linear("pre_expert_proj", "latent.w_in"), Tensor("pre_expert_norm.weight", ("latent.norm_scale",)), *fused(),
                   Tensor("experts.post_expert_norm.weight", ("experts.norm_scale",)), *linear("post_expert_proj", "latent.w_out")),
    "lfm2_moe": (*PLAIN, *correction("expert_bias")),
    "nemotron_h": (*BIASED, Tensor("experts.up_proj", ("experts.w_in",), swap=True), Tensor("experts.down_proj", ("experts.w_out",), swap=True),
                   *plain("shared_experts.", "shared.0"), *linear("fc1_latent_proj", "latent.w_in", bias="latent.b_in"),
                   *linear("fc2_latent_proj", "latent.w_out", bias="latent.b_out")),
    "ernie4_5_moe": (*ERNIE(""), *fused(), *SHARED),
    "ernie4_5_vl_moe": (*ERNIE_TEXT, *pooled(ERNIE_TEXT), *SHARED),
    "longcat_flash": (*linear("router.classifier", "router.w"), *correction("router.e_score_correction_bias"), *fused(spare=True)),
    "deepseek_v4": (*DEEPSEEK, Tensor("gate.tid2eid", ("router.table",))),
    "inkling": (Tensor("gate.weight", ("router.w", "router.w_shared"), swap=True, split="parts", axis=-2),
                Tensor("gate.global_scale", ("router.scale",), rank=1),
                *correction("gate.e_score_correction_bias"), *fused(),
                *(Tensor(f"shared_experts.{n}_proj", (f"shared.0.w_{n}",), swap=True) for n in ("gate", "up", "down"))),
    "gemma4 diffusion_gemma": (*GEMMA, *fused()),
    "switch_transformers": (*linear("router.classifier", "router.w", bias="router.b"), *modules("wi", "wo")),
    "nllb_moe": (*linear("router.classifier", "router.w", bias="router.b"), *modules("fc1", "fc2")),
    "zaya": (*linear("gate.down_proj", "router.w_in", bias="router.b_in"), Tensor("gate.router_states_scale", ("router.memory_scale",)),
             Tensor("gate.router_mlp.norm.weight", ("router.norm_scale",)), *linear("gate.router_mlp.fc1", "router.w_1", bias="router.b_1"),
             *linear("gate.router_mlp.fc2", "router.w_2", bias="router.b_2"), *linear("gate.router_mlp.out_proj", "router.w"),
             *correction("gate.balancing_biases"), *fused()),
    "doge": (*mlp("", "shared.0"), Tensor("router_gate.weight", ("router.w_first", "router.w_second"), swap=True, split="parts", axis=-2),
             Tensor("down_embed.weight", ("experts.w_in",)), Tensor("up_embed.weight", ("experts.w_out",))),
    "vitpose_backbone": (*linear("fc1", "experts.w_in", bias="experts.b_in"), *linear("fc2", "experts.w_rest", bias="experts.b_rest"),
                         Tensor("experts.{e}.weight", ("experts.w",), swap=True), Tensor("experts.{e}.bias", ("experts.b",))),
}
TENSORS: dict[str, Tensors] = {name: tensors for names, tensors in _TABLE.items() for name in names.split()}
# Tensors that are there and never read.
UNREAD = {"longcat_flash": ("router.classifier.bias",)}
# Configuration keys that a block is given from outside: which tensor, which axis.
INFERRED = {"nllb_moe": {"ffn_dim": ("experts.expert_0.fc1.weight", 0)}}


# What published files hold where that is neither the modules' layout nor the usual one.
_FILES = {
    "mixtral minimax minimax_m2 lfm2_moe": MIXTRAL,
    "phimoe": (*GATE, *MIXTRAL),
    "granitemoe granitemoe_swa granitemoehybrid granitemoeshared": (
        *linear("router.layer", "router.w"), *fused("", "output_linear.weight", "input_linear.weight")),
    "nemotron_h": tuple(Tensor(f"experts.{{e}}.{name}.weight", (f"experts.{w}",), swap=True)
                        for name, w in (("up_proj", "w_in"), ("down_proj", "w_out"))),
}
FILES = {name: tensors for names, tensors in _FILES.items() for name in names.split()}


def layouts(model_type: str) -> tuple[Tensors, ...]:
    """The ways in which a family is stored: as the library's modules hold it, and as published files do, where that differs."""
    own = TENSORS[model_type]
    usual = ON_DISK if any(t.name == "experts.gate_up_proj" and t.swap for t in own) else ()
    other = FILES.get(model_type, usual)
    replaced = {p for t in other for p in t.params}
    return (own, tuple(t for t in own if not replaced & set(t.params)) + other) if other else (own,)
