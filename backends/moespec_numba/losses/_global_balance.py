"""losses.global_balance."""

from moespec.program import Impl
from moespec_numba._kernel import OPS
from moespec_numba.losses._balance import weigh_means, weigh_means_backward
from moespec_numba.losses._scalar import valid


def forward(probs, counts, mask=None):
    dims = OPS["losses.global_balance"].admit(probs, counts, mask)
    return weigh_means(probs, dims.E * counts / max(int(counts.sum()), 1), *valid(mask, dims.T))


IMPL = Impl(forward, weigh_means_backward)
