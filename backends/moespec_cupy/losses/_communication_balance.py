"""losses.communication_balance."""

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy.losses._balance import balance, balance_backward, count_choices


def forward(probs, indices, mask=None, *, devices, limit):
    dims = admit("losses.communication_balance", probs, indices, mask, devices=devices, limit=limit)
    each = dims.E // devices
    received = count_choices(indices, dims.E, mask, together=each)
    return balance(probs, received, mask, scale=devices / limit, per_token=1, together=each)


IMPL = Impl(forward, balance_backward)
