"""losses.load_balance."""

from moespec.program import Impl
from moespec_numba._kernel import OPS
from moespec_numba.losses._balance import fractions, weigh_means, weigh_means_backward
from moespec_numba.losses._scalar import valid


def forward(probs, indices, mask=None, *, choices=None, normalizer="assignments"):
    dims = OPS["losses.load_balance"].admit(probs, indices, mask, choices=choices, normalizer=normalizer)
    mask, counted = valid(mask, dims.T)
    return weigh_means(probs, dims.E * fractions(indices[:, :choices], dims.E, mask, counted, normalizer), mask, counted)


IMPL = Impl(forward, weigh_means_backward)
