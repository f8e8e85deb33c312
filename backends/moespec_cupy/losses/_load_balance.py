"""losses.load_balance."""

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy.losses._balance import balance, balance_backward, count_choices, per_token


def forward(probs, indices, mask=None, *, choices=None, normalizer="assignments"):
    dims = admit("losses.load_balance", probs, indices, mask, choices=choices, normalizer=normalizer)
    counts = count_choices(indices, dims.E, mask, counted=choices)
    return balance(probs, counts, mask, scale=dims.E, per_token=per_token(dims.K if choices is None else choices, normalizer))


IMPL = Impl(forward, balance_backward)
