"""Gates: from tokens to a routing.

rms_norm, mix_in, linear  from tokens to logits
softcap, rescale, noisy_logits, add_noise, jitter, cast_like    what else is done to tokens, logits and weights
softmax                   the dense gate of 1991; a score like sigmoid and sqrt_softplus
gaussian, tree            the gates of 1994: normalised kernels, and a softmax at every node of a tree
topk, select              selection, in the normative order; by biased scores, within the best groups
lookup, product_keys, pair_sums    selection from a table, and from n^2 experts; the logits of all pairs of keys
of_kind                   tokens of one kind
gather, selected_softmax, selected_sigmoid, selected_sqrt_softplus    scores of the chosen
renormalize, joint_weights, scale_weights, scale_experts, limit_ids, accept    from scores to weights
route                     the general router, composed of them
topk_softmax, softmax_topk, noisy_topk, switch, gshard    the papers' gates, by hand
sparsemixer               one expert after the other
batchwise, threshold      strictly balanced gating
hierarchical              two levels
expert_choice             experts choose tokens; with one expert: mixture-of-depths
relu_route, top_p         as many experts as the logits or probabilities ask for
assign, sinkhorn          balanced assignment of one batch, exact and smoothed
bias_sign, bias_centred, bias_proportional, quantile_bias    updates of the selection bias: balancing without a loss
soft, l2_normalize        Soft MoE: averages of tokens, nothing selected
"""

from moespec.gates import (
    _accept,
    _add_noise,
    _assign,
    _batchwise,
    _bias_centred,
    _bias_proportional,
    _bias_sign,
    _cast_like,
    _expert_choice,
    _gather,
    _gaussian,
    _gshard,
    _hierarchical,
    _jitter,
    _joint_weights,
    _l2_normalize,
    _limit_ids,
    _linear,
    _lookup,
    _mix_in,
    _noisy_logits,
    _noisy_topk,
    _of_kind,
    _pair_sums,
    _product_keys,
    _quantile_bias,
    _relu_route,
    _renormalize,
    _rescale,
    _rms_norm,
    _route,
    _scale_experts,
    _scale_weights,
    _select,
    _selected_sigmoid,
    _selected_softmax,
    _selected_sqrt_softplus,
    _sigmoid,
    _sinkhorn,
    _soft,
    _softcap,
    _softmax,
    _softmax_topk,
    _sparsemixer,
    _sqrt_softplus,
    _switch,
    _threshold,
    _top_p,
    _topk,
    _topk_softmax,
    _tree,
)
from moespec.gates._accept import Accepted, accept, accept_backward
from moespec.gates._add_noise import add_noise, add_noise_backward
from moespec.gates._assign import assign
from moespec.gates._batchwise import batchwise, batchwise_backward
from moespec.gates._bias_centred import bias_centred
from moespec.gates._bias_proportional import bias_proportional
from moespec.gates._bias_sign import bias_sign
from moespec.gates._cast_like import cast_like, cast_like_backward
from moespec.gates._expert_choice import expert_choice, expert_choice_backward
from moespec.gates._gather import gather, gather_backward
from moespec.gates._gaussian import gaussian, gaussian_backward
from moespec.gates._gshard import gshard, gshard_backward
from moespec.gates._hierarchical import hierarchical, hierarchical_backward
from moespec.gates._jitter import jitter, jitter_backward
from moespec.gates._joint_weights import JointWeights, joint_weights, joint_weights_backward
from moespec.gates._l2_normalize import l2_normalize, l2_normalize_backward
from moespec.gates._limit_ids import Limited, limit_ids, limit_ids_backward
from moespec.gates._linear import linear, linear_backward
from moespec.gates._lookup import lookup
from moespec.gates._mix_in import mix_in, mix_in_backward
from moespec.gates._noisy_logits import NoisyLogits, noisy_logits, noisy_logits_backward
from moespec.gates._noisy_topk import NoisyTopK, noisy_topk, noisy_topk_backward
from moespec.gates._of_kind import of_kind
from moespec.gates._pair_sums import pair_sums, pair_sums_backward
from moespec.gates._product_keys import ProductKeys, product_keys, product_keys_backward
from moespec.gates._quantile_bias import quantile_bias
from moespec.gates._relu_route import relu_route, relu_route_backward
from moespec.gates._renormalize import renormalize, renormalize_backward
from moespec.gates._rescale import rescale, rescale_backward
from moespec.gates._rms_norm import rms_norm, rms_norm_backward
from moespec.gates._route import route, route_backward, route_steps
from moespec.gates._routing import Routing
from moespec.gates._scale_experts import scale_experts, scale_experts_backward
from moespec.gates._scale_weights import scale_weights, scale_weights_backward
from moespec.gates._select import select
from moespec.gates._selected_sigmoid import selected_sigmoid, selected_sigmoid_backward
from moespec.gates._selected_softmax import selected_softmax, selected_softmax_backward
from moespec.gates._selected_sqrt_softplus import selected_sqrt_softplus, selected_sqrt_softplus_backward
from moespec.gates._sigmoid import sigmoid, sigmoid_backward
from moespec.gates._sinkhorn import sinkhorn
from moespec.gates._soft import SoftRouting, soft, soft_backward
from moespec.gates._softcap import softcap, softcap_backward
from moespec.gates._softmax import softmax, softmax_backward
from moespec.gates._softmax_topk import softmax_topk, softmax_topk_backward
from moespec.gates._sparsemixer import sparsemixer, sparsemixer_backward
from moespec.gates._sqrt_softplus import sqrt_softplus, sqrt_softplus_backward
from moespec.gates._switch import SwitchRouting, switch, switch_backward
from moespec.gates._threshold import threshold, threshold_backward
from moespec.gates._top_p import top_p, top_p_backward
from moespec.gates._topk import topk
from moespec.gates._topk_softmax import topk_softmax, topk_softmax_backward
from moespec.gates._tree import tree, tree_backward

OPS = {op.short: op for op in (
    _linear.OP,
    _cast_like.OP,
    _jitter.OP,
    _noisy_logits.OP,
    _softmax.OP,
    _topk.OP,
    _gather.OP,
    _selected_softmax.OP,
    _renormalize.OP,
    _accept.OP,
    _route.OP,
    _topk_softmax.OP,
    _softmax_topk.OP,
    _noisy_topk.OP,
    _switch.OP,
    _gshard.OP,
    _batchwise.OP,
    _threshold.OP,
    _hierarchical.OP,
    _expert_choice.OP,
    _l2_normalize.OP,
    _soft.OP,
    _relu_route.OP,
    _top_p.OP,
    _assign.OP,
    _sinkhorn.OP,
    _bias_sign.OP,
    _bias_centred.OP,
    _bias_proportional.OP,
    _quantile_bias.OP,
    _sigmoid.OP,
    _sqrt_softplus.OP,
    _selected_sigmoid.OP,
    _selected_sqrt_softplus.OP,
    _select.OP,
    _softcap.OP,
    _rescale.OP,
    _scale_weights.OP,
    _scale_experts.OP,
    _rms_norm.OP,
    _lookup.OP,
    _limit_ids.OP,
    _joint_weights.OP,
    _add_noise.OP,
    _mix_in.OP,
    _product_keys.OP,
    _sparsemixer.OP,
    _of_kind.OP,
    _pair_sums.OP,
    _gaussian.OP,
    _tree.OP,
)}

__all__ = [
    "OPS",
    "Accepted",
    "JointWeights",
    "Limited",
    "NoisyLogits",
    "NoisyTopK",
    "ProductKeys",
    "Routing",
    "SoftRouting",
    "SwitchRouting",
    "accept",
    "accept_backward",
    "add_noise",
    "add_noise_backward",
    "assign",
    "batchwise",
    "batchwise_backward",
    "bias_centred",
    "bias_proportional",
    "bias_sign",
    "cast_like",
    "cast_like_backward",
    "expert_choice",
    "expert_choice_backward",
    "gather",
    "gather_backward",
    "gaussian",
    "gaussian_backward",
    "gshard",
    "gshard_backward",
    "hierarchical",
    "hierarchical_backward",
    "jitter",
    "jitter_backward",
    "joint_weights",
    "joint_weights_backward",
    "l2_normalize",
    "l2_normalize_backward",
    "limit_ids",
    "limit_ids_backward",
    "linear",
    "linear_backward",
    "lookup",
    "mix_in",
    "mix_in_backward",
    "noisy_logits",
    "noisy_logits_backward",
    "noisy_topk",
    "noisy_topk_backward",
    "of_kind",
    "pair_sums",
    "pair_sums_backward",
    "product_keys",
    "product_keys_backward",
    "quantile_bias",
    "relu_route",
    "relu_route_backward",
    "renormalize",
    "renormalize_backward",
    "rescale",
    "rescale_backward",
    "rms_norm",
    "rms_norm_backward",
    "route",
    "route_backward",
    "route_steps",
    "scale_experts",
    "scale_experts_backward",
    "scale_weights",
    "scale_weights_backward",
    "select",
    "selected_sigmoid",
    "selected_sigmoid_backward",
    "selected_softmax",
    "selected_softmax_backward",
    "selected_sqrt_softplus",
    "selected_sqrt_softplus_backward",
    "sigmoid",
    "sigmoid_backward",
    "sinkhorn",
    "soft",
    "soft_backward",
    "softcap",
    "softcap_backward",
    "softmax",
    "softmax_backward",
    "softmax_topk",
    "softmax_topk_backward",
    "sparsemixer",
    "sparsemixer_backward",
    "sqrt_softplus",
    "sqrt_softplus_backward",
    "switch",
    "switch_backward",
    "threshold",
    "threshold_backward",
    "top_p",
    "top_p_backward",
    "topk",
    "topk_softmax",
    "topk_softmax_backward",
    "tree",
    "tree_backward",
]
