"""losses.heterogeneous_balance."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import read
from moespec_numba_cuda.losses._balance import coefficients, valid, weigh_means, weigh_means_backward
from moespec_numba_cuda.losses._choices import choice_sums


def forward(probs, indices, mask=None, *, ffn_experts, tau):
    dims = admit("losses.heterogeneous_balance", probs, indices, mask, ffn_experts=ffn_experts, tau=tau)
    mask, counted = valid(mask, dims.T)
    load = choice_sums(read(indices, "int64"), dims.E, mask)
    return weigh_means(probs, coefficients(load, counted, ffn=ffn_experts, tau=tau), mask, counted)


IMPL = Impl(forward, weigh_means_backward)
