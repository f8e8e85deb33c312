"""losses.device_balance."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import read
from moespec_numba_cuda.losses._balance import coefficients, valid, weigh_means, weigh_means_backward
from moespec_numba_cuda.losses._choices import choice_sums


def forward(probs, indices, mask=None, *, devices):
    dims = admit("losses.device_balance", probs, indices, mask, devices=devices)
    mask, counted = valid(mask, dims.T)
    load = choice_sums(read(indices, "int64"), dims.E, mask)
    coefficient = coefficients(load, counted, scale=devices, per=max(dims.K, 1), together=dims.E // devices)
    return weigh_means(probs, coefficient, mask, counted)


IMPL = Impl(forward, weigh_means_backward)
