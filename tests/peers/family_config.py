"""A stub configuration: it answers what a block reads, in a small size, and remembers it."""

from __future__ import annotations

from typing import NamedTuple

VOCAB = 11


class Sizes(NamedTuple):
    """Widths, experts, batch and length of a small block."""

    d: int = 32
    f: int = 24
    shared: int = 20
    e: int = 8
    batch: int = 2
    time: int = 12

    def answers(self):
        """What a configuration of this size says."""
        return {
            **dict.fromkeys(("hidden_size", "d_model"), self.d),
            **dict.fromkeys(("intermediate_size", "moe_intermediate_size", "expert_ffn_hidden_size", "ffn_hidden_size", "d_ff"), self.f),
            **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), self.e),
            **dict.fromkeys(("shared_expert_intermediate_size", "moe_shared_expert_intermediate_size", "shared_experts_intermediate_size",
                             "share_expert_dim", "shared_intermediate_size"), self.shared)}


ANSWERS = {
    "_experts_implementation": "eager", "vocab_size": VOCAB, "initializer_range": 0.02, "hidden_act": "silu",
    "hidden_activation": "gelu_pytorch_tanh", "activation_function": "silu", "mlp_hidden_act": "relu2", "mlp_bias": False, "use_bias": False,
    "rms_norm_eps": 1e-6, "post_norm_eps": 1e-8, "n_group": 2, "topk_group": 1, "norm_topk_prob": True, "router_jitter_noise": 0.0,
    "input_jitter_noise": 0.0,
    **dict.fromkeys(("num_experts_per_tok", "moe_topk", "top_k_experts", "moe_top_k"), 2),
    **dict.fromkeys(("n_shared_experts", "num_shared_experts", "moe_num_shared_experts"), 1),
    **dict.fromkeys(("routed_scaling_factor", "route_scale", "router_scaling_factor", "moe_router_scaling_factor", "moe_routed_scaling_factor"), 1.5),
}


class Config:
    """Answers what a block reads, and remembers it."""

    def __init__(self, sizes=Sizes(), **over):      # noqa: B008  (immutable)
        self.__dict__.update(values={**ANSWERS, **sizes.answers(), **over}, read={}, over=over)

    def __getattr__(self, name):
        if name.startswith("__") or name not in self.values:
            raise AttributeError(name)
        value = self.values[name]
        if not name.startswith("_"):
            self.read[name] = value.read if isinstance(value, Config) else value
        return value
