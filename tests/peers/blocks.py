"""Live blocks of the installed transformers: every family's layer in a small size, its float32 casts promoted to float64.

A block is built from a stub configuration that answers the attributes which the block reads, and remembers them: what
`moespec.interop.hf.load` is given is exactly that.
"""

from __future__ import annotations

import contextlib
import importlib
from types import SimpleNamespace

import numpy as np

D, F, SHARED, E, K = 32, 24, 20, 8, 2
BATCH, TIME, VOCAB = 2, 12, 11
ANSWERS = {
    "_experts_implementation": "eager", "vocab_size": VOCAB, "initializer_range": 0.02, "hidden_act": "silu", "hidden_activation": "gelu_pytorch_tanh",
    "activation_function": "silu", "mlp_hidden_act": "relu2", "mlp_bias": False, "use_bias": False, "rms_norm_eps": 1e-6, "post_norm_eps": 1e-8,
    **dict.fromkeys(("hidden_size", "d_model"), D),
    **dict.fromkeys(("intermediate_size", "moe_intermediate_size", "expert_ffn_hidden_size", "ffn_hidden_size"), F),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), E),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk", "top_k_experts", "moe_top_k"), K),
    **dict.fromkeys(("n_shared_experts", "num_shared_experts", "moe_num_shared_experts"), 1),
    **dict.fromkeys(("shared_expert_intermediate_size", "moe_shared_expert_intermediate_size", "shared_experts_intermediate_size", "share_expert_dim",
                     "shared_intermediate_size"), SHARED),
    "n_group": 2, "topk_group": 1, "routed_scaling_factor": 1.5, "route_scale": 1.5, "router_scaling_factor": 1.5, "moe_router_scaling_factor": 1.5,
    "moe_routed_scaling_factor": 1.5, "norm_topk_prob": True, "router_jitter_noise": 0.0, "input_jitter_noise": 0.0,
}


class Config:
    """Answers what a block reads, and remembers it."""

    def __init__(self, **over):
        self.__dict__.update(values={**ANSWERS, **over}, read={})

    def __getattr__(self, name):
        if name.startswith("__") or name not in self.values:
            raise AttributeError(name)
        value = self.values[name]
        if not name.startswith("_"):
            self.read[name] = value.read if isinstance(value, Config) else value
        return value
