"""losses.device_balance."""

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy.losses._balance import balance, balance_backward, count_choices


def forward(probs, indices, mask=None, *, devices):
    dims = admit("losses.device_balance", probs, indices, mask, devices=devices)
    return balance(probs, count_choices(indices, dims.E, mask), mask, scale=devices, per_token=max(dims.K, 1), together=dims.E // devices)


IMPL = Impl(forward, balance_backward)
