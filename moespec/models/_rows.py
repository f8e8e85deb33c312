"""The routers, experts, shared experts and losses that public families are made of; a name per row of the table in docs/models.md."""

from __future__ import annotations

import math

from moespec.layer import Clamp, Experts, Given, Groups, Latent, Loss, Net, Norm, Router, Shared
from moespec.models._config import C, Times, When, make

ACTIVATIONS = {"silu": "silu", "swish": "silu", "gelu": "gelu", "gelu_pytorch_tanh": "gelu_tanh", "gelu_new": "gelu_tanh",
               "relu": "relu", "relu2": "relu2"}
SCORES = {"sqrtsoftplus": "sqrt_softplus", "sigmoid": "sigmoid", "softmax": "softmax"}

K = C("num_experts_per_tok|num_experts_per_token|moe_topk|moe_k|top_k_experts|moe_top_k")
N = C("num_local_experts|n_routed_experts|num_experts|moe_num_experts")
NARROW = C("moe_intermediate_size|expert_ffn_hidden_size")
WIDE = C("intermediate_size")
ACT = C("hidden_act|hidden_activation|activation_function", "silu", ACTIVATIONS.__getitem__)
NORM = C("norm_topk_prob|moe_renormalize", "none", lambda on: "sum" if on else "none")
SCALE = C("routed_scaling_factor|route_scale|router_scaling_factor|moe_routed_scaling_factor|moe_router_scaling_factor", 1.0)
GROUPS = When(C("n_group|num_expert_group", None, lambda n: n is not None and n > 1), make(
    Groups, n=C("n_group|num_expert_group"), keep=C("topk_group")))
MODEL = {"dtype": "bfloat16"}          # logits in the model's own dtype

# ---- routers ---------------------------------------------------------------------------------------------------------

R1 = make(Router, k=K, norm="sum")
R2 = R1.but(norm=NORM)
R3 = R1.but(norm="none")
R4 = R1.but(norm=C("moe_normalize_expert_weights", "none", lambda p: "none" if p is None else "lp"),
            p=C("moe_normalize_expert_weights", 1.0, lambda p: 1.0 if p is None else p), **MODEL)
R5 = make(Router, k=K, over="selected")
R6 = When(C("expert_selection_fn", False, {"softmax": False, "sigmoid": True}.__getitem__), R5.but(score="sigmoid", norm=NORM, **MODEL), R5)
R7 = R5.but(score="sigmoid", weigh="input", **MODEL)
R8 = make(Router, k=K, score="sigmoid", norm=NORM)
R9 = make(Router, k=K, score="sigmoid", correction=True, norm="sum")
R9_SUM = R9.but(scale=SCALE, scale_at="sum")
R10 = R9.but(eps=1e-20, scale=SCALE)
R11 = make(Router, k=K, score="sigmoid", correction=C("use_expert_bias", True), norm=NORM, eps=1e-6, scale=SCALE, **MODEL)
R12 = R9_SUM.but(net=make(Net, cap=C("moe_router_logit_softcapping", None, lambda c: c if c and c > 0 else None)))
R13 = make(Router, k=K, score="sigmoid", correction=True, groups=GROUPS, norm=NORM, eps=1e-20, scale=SCALE)
R14 = R13.but(groups=When(C("n_group", None, lambda n: n is not None), make(Groups, n=C("n_group"), keep=C("topk_group"), fill=0.0)))
R15 = make(Router, k=K, scale=SCALE, groups=When(
    C("topk_method", False, {"greedy": False, "group_limited_greedy": True}.__getitem__),
    make(Groups, n=C("n_group"), keep=C("topk_group"), reduce="max", base="raw", fill=0.0)))
R16 = make(Router, k=K, norm=NORM, eps=1e-20, scale=SCALE, **MODEL, groups=When(
    C("n_group", None, lambda n: n is not None and n > 1), make(Groups, n=C("n_group"), keep=C("topk_group"), base="raw", fill=0.0)))
R17 = make(Router, k=K, correction=True, norm="clamp", eps=C("moe_norm_min", 1e-12))
R18 = make(Router, k=K, correction=True, scale=SCALE)
R19 = make(Router, k=K, score=C("scoring_func", "sqrt_softplus", SCORES.__getitem__), correction=True, norm="sum", eps=1e-20, scale=SCALE)
R20 = R19.but(correction=False, select="table", vocab=C("vocab_size"))
R21 = R19.but(score=C("scoring_func", "sigmoid", SCORES.__getitem__))
R22 = make(Router, k=K, score="sigmoid", over="selected", correction=True, norm=NORM)
R23 = make(Router, k=K, score="sigmoid", correction=True, scale=SCALE, learned_scale=True)
R24 = make(Router, k=K, norm="sum", expert_scale=True, net=make(
    Net, norm=make(Norm, eps=C("rms_norm_eps", 1e-6), factor=C("hidden_size", 1.0, lambda h: 1 / math.sqrt(h)))))
R25 = make(Router, k=K, select="sparsemixer", threshold=C("router_jitter_noise", 0.01), **MODEL)
R26 = make(Router, k=1, jitter=C("router_jitter_noise", 0.01), net=make(Net, bias=C("router_bias", False)))
R27 = make(Router, k=2, norm="clamp", eps=2.0**-23, net=make(Net, bias=C("router_bias", False)),
           accept=C("second_expert_policy", None, {"all": None, "random": "gshard"}.__getitem__))
R28 = make(Router, k=K, correction=True, **MODEL, net=make(
    Net, kind="mlp", hidden=C("router_hidden_size"), memory=C("layer_idx", True, lambda layer: layer != 0),
    norm=make(Norm, eps=C("rms_norm_eps", 1e-5))))
R29 = make(Router, k=K, over="selected", net=make(Net, kind="product_keys"), **MODEL)
R30 = make(Given, by="dataset_index")
JITTER = {"jitter": C("router_jitter_noise", 0.0), "jitter_to": "both"}

# ---- experts ---------------------------------------------------------------------------------------------------------

E1 = make(Experts, n=N, width=NARROW, activation=ACT)
E1_WIDE = E1.but(width=WIDE)
CLAMP3 = make(Clamp, limit=C("swiglu_limit", None))
E3 = E1.but(clamp=CLAMP3)
CLAMP4 = make(Clamp, limit=C("swiglu_limits", None, lambda limit: limit or None), at="post")
E4 = E1.but(clamp=CLAMP4)
CLAMP5 = make(Clamp, limit=C("swiglu_limit", 7.0), alpha=C("swiglu_alpha", 1.702), up_offset=1.0)
E5 = E1_WIDE.but(clamp=CLAMP5, activation="silu")
CLAMP6 = make(Clamp, cap_gate=C("mlp_gate_softcap", 4.0), cap_up=C("mlp_up_softcap", 25.0))
E6 = E1.but(clamp=CLAMP6, activation="silu")
E7 = make(Experts, n=N, width=NARROW, kind="ffn", activation=C("mlp_hidden_act", "relu2", ACTIVATIONS.__getitem__), bias=False, latent=When(
    C("moe_latent_size", None, lambda size: size is not None), make(Latent, width=C("moe_latent_size"), bias=C("mlp_bias", False))))
E8 = make(Experts, n=N, width=C("d_ff|encoder_ffn_dim|ffn_dim"), kind="ffn",
          activation=C("dense_act_fn|activation_function", "relu", ACTIVATIONS.__getitem__), dropout=C("dropout_rate|activation_dropout", 0.0))
CENTRED = {"offset": 1.0}
E11 = E1.but(latent=make(Latent, width=C("moe_hidden_size"), norm=make(Norm, eps=C("rms_norm_eps", 1e-5), **CENTRED)),
             norm=make(Norm, eps=C("post_norm_eps", 1e-8), scale_at="input", **CENTRED))
E12 = E1.but(copies=C("zero_expert_num", 0))
E12_SKIP = E1.but(zeros=1)
E13 = make(Experts, n=N, kind="singleton", activation=ACT)
E16 = make(Experts, n=N, kind="linear", bias=True, partial=C("part_features"), activation=C("hidden_act", "gelu", ACTIVATIONS.__getitem__),
           width=Times((C("hidden_size"), C("mlp_ratio", 4))))

# ---- shared experts --------------------------------------------------------------------------------------------------

COUNT = C("n_shared_experts|num_shared_experts|moe_num_shared_experts", 0)
SOME = C("n_shared_experts|num_shared_experts|moe_num_shared_experts", 0, lambda n: n is not None and n > 0)
STACKED = When(SOME, make(Shared, width=Times((NARROW, COUNT)), activation=ACT, bias=C("mlp_bias|use_bias", False)))
STACKED_WIDE = When(SOME, make(Shared, width=Times((WIDE, COUNT)), activation=ACT, bias=C("mlp_bias|use_bias", False)))
OWN = make(Shared, activation=ACT, bias=C("mlp_bias", False), width=C(
    "shared_expert_intermediate_size|moe_shared_expert_intermediate_size|share_expert_dim|shared_intermediate_size"))
GATED = OWN.but(gate="sigmoid", bias=False)

# ---- losses ----------------------------------------------------------------------------------------------------------

COEF = C("router_aux_loss_coef|aux_loss_coef|moe_loss_weight", 0.001)
A1 = make(Loss, op="losses.load_balance", coef=COEF, attrs=(("normalizer", "tokens"),), source="logits")
A3 = make(Loss, op="losses.sequence_balance", coef=C("router_aux_loss_coef", 0.001), attrs=(("normalize", False),))
A4 = A1.but(attrs=(("normalizer", "assignments"),), source="router")
Z1 = make(Loss, op="losses.z_loss", coef=C("router_z_loss_coef", 0.001))
