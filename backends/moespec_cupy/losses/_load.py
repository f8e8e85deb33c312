"""losses.load."""

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import accumulation
from moespec_cupy.dispatch._column_sums import column_sums
from moespec_cupy.losses._chances import chances, chances_backward


def forward(clean, sigma, noisy, order=None, *, k):
    dims = admit("losses.load", clean, sigma, noisy, order, k=k)
    p, saved = chances(clean, sigma, noisy, order, k, (dims.T, dims.E))
    return (column_sums(p, accumulation(clean.dtype)), saved.order), saved


def backward(saved, dload):
    return chances_backward(saved, dload, saved.logits[0].shape)


IMPL = Impl(forward, backward)
