"""losses.heterogeneous_balance."""

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS
from moespec_numba.losses._balance import fractions, weigh_means, weigh_means_backward
from moespec_numba.losses._scalar import valid


def forward(probs, indices, mask=None, *, ffn_experts, tau):
    dims = OPS["losses.heterogeneous_balance"].admit(probs, indices, mask, ffn_experts=ffn_experts, tau=tau)
    mask, counted = valid(mask, dims.T)
    eta = np.where(np.arange(dims.E) < ffn_experts, 1.0, tau)
    return weigh_means(probs, eta * fractions(indices, dims.E, mask, counted, "tokens"), mask, counted)


IMPL = Impl(forward, weigh_means_backward)
