"""losses.pooled_balance."""

from moespec.program import Impl
from moespec_numba._kernel import OPS
from moespec_numba.losses._balance import fractions, weigh_means, weigh_means_backward
from moespec_numba.losses._scalar import valid


def forward(probs, indices, mask=None, *, normalizer="tokens"):
    dims = OPS["losses.pooled_balance"].admit(probs, indices, mask, normalizer=normalizer)
    tokens = dims.M * dims.T
    rows, ids = probs.reshape(tokens, dims.E), indices.reshape(tokens, dims.K)
    mask, counted = valid(None if mask is None else mask.reshape(tokens), tokens)
    loss, saved = weigh_means(rows, dims.E * fractions(ids, dims.E, mask, counted, normalizer), mask, counted)
    return loss, (saved, probs.shape)


def backward(saved, dloss):
    inner, shape = saved
    return weigh_means_backward(inner, dloss).reshape(shape)


IMPL = Impl(forward, backward)
