"""losses.global_balance."""

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import read
from moespec_cupy.losses._balance import balance, balance_backward


def forward(probs, counts, mask=None):
    dims = admit("losses.global_balance", probs, counts, mask)
    return balance(probs, read(counts, "int64"), mask, scale=dims.E, per_token=0)


IMPL = Impl(forward, balance_backward)
