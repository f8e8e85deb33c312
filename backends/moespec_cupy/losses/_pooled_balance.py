"""losses.pooled_balance."""

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy.losses._balance import balance, balance_backward, count_choices, per_token


def forward(probs, indices, mask=None, *, normalizer="tokens"):
    dims = admit("losses.pooled_balance", probs, indices, mask, normalizer=normalizer)
    valid = None if mask is None else mask.reshape(dims.M * dims.T)
    counts = count_choices(indices.reshape(dims.M * dims.T, dims.K), dims.E, valid)
    return balance(probs, counts, valid, scale=dims.E, per_token=per_token(dims.K, normalizer))


IMPL = Impl(forward, balance_backward)
