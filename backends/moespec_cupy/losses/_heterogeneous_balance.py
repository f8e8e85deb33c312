"""losses.heterogeneous_balance."""

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy.losses._balance import balance, balance_backward, count_choices


def forward(probs, indices, mask=None, *, ffn_experts, tau):
    dims = admit("losses.heterogeneous_balance", probs, indices, mask, ffn_experts=ffn_experts, tau=tau)
    return balance(probs, count_choices(indices, dims.E, mask), mask, scale=1.0, per_token=1, ffn=ffn_experts, tau=tau)


IMPL = Impl(forward, balance_backward)
