"""losses.load."""

from __future__ import annotations

from moespec.numerics import acc
from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import convert
from moespec_numba_cuda.losses._chances import chances, chances_backward
from moespec_numba_cuda.losses._mean import column_sums, masked


def forward(clean, sigma, noisy, order=None, *, k):
    dims = admit("losses.load", clean, sigma, noisy, order, k=k)
    p, saved = chances(clean, sigma, noisy, order, k, (dims.T, dims.E))
    return (convert(column_sums(p, masked(None)), acc(clean)), saved.order), saved


def backward(saved, dload):
    return chances_backward(saved, dload.reshape(1, dload.size))


IMPL = Impl(forward, backward)
