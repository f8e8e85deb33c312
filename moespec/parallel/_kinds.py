"""What every op needs to see: each token by itself, a plan of some tokens, the rows of one expert, or the whole batch."""

from __future__ import annotations


def _ops(names: str) -> frozenset[str]:
    return frozenset(names.split())


# Works on every token (or row) by itself: on a part of the tokens it gives that part of the result, and gradients of parameters add up.
TOKENS = _ops("""
gates.linear gates.cast_like gates.jitter gates.noisy_logits gates.softmax gates.topk gates.gather gates.selected_softmax gates.renormalize
gates.accept gates.route gates.topk_softmax gates.softmax_topk gates.noisy_topk gates.switch gates.gshard gates.threshold gates.hierarchical
gates.l2_normalize gates.relu_route gates.top_p gates.sigmoid gates.sqrt_softplus gates.selected_sigmoid gates.selected_sqrt_softplus
gates.select gates.softcap gates.rescale gates.scale_weights gates.scale_experts gates.rms_norm gates.lookup gates.limit_ids
gates.joint_weights gates.add_noise gates.mix_in gates.product_keys gates.sparsemixer gates.of_kind gates.pair_sums gates.gaussian gates.tree
dispatch.unmix dispatch.add dispatch.gate_rows dispatch.concat dispatch.add_bias
experts.identity experts.relu experts.relu2 experts.silu experts.gelu experts.gelu_tanh
experts.moe experts.moe_block experts.singleton experts.copy experts.constant losses.gaussian_log_likelihood
""")

# Tokens to rows and back, through a plan: a part of the tokens has a plan of its own.
PLANS = _ops("dispatch.plan dispatch.permute dispatch.combine dispatch.scatter_choices dispatch.gather_choices dispatch.weigh_rows")

# The rows of one expert together.
EXPERTS = _ops("experts.grouped_matmul experts.linear experts.ffn experts.glu")

# Looks at the tokens of the batch together: places in buffers, averages, sums.
BATCH = _ops("""
gates.batchwise gates.expert_choice gates.soft gates.assign gates.sinkhorn gates.quantile_bias
gates.bias_sign gates.bias_centred gates.bias_proportional
dispatch.drop dispatch.reroute dispatch.mix dispatch.one_hot dispatch.encode dispatch.decode
losses.cooperation losses.specialisation losses.mixture_nll losses.mixture_nll_classification losses.importance_cv2 losses.load losses.load_cv2
losses.hierarchical_load_cv2 losses.load_balance losses.z_loss losses.batchwise_threshold losses.global_balance losses.device_balance
losses.communication_balance losses.heterogeneous_balance losses.sequence_balance losses.pooled_balance losses.router_entropy losses.gate_l1
losses.mixture_likelihood
""")
