"""losses.pooled_balance."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import flat, read
from moespec_numba_cuda.losses._balance import coefficients, per_assignment, valid, weigh_means, weigh_means_backward
from moespec_numba_cuda.losses._choices import choice_sums


def forward(probs, indices, mask=None, *, normalizer="tokens"):
    dims = admit("losses.pooled_balance", probs, indices, mask, normalizer=normalizer)
    mask, counted = valid(None if mask is None else flat(read(mask)), dims.M * dims.T)
    load = choice_sums(read(indices, "int64").reshape(dims.M * dims.T, dims.K), dims.E, mask)
    coefficient = coefficients(load, counted, scale=dims.E, per=per_assignment(dims.K, normalizer))
    return weigh_means(probs, coefficient, mask, counted)


IMPL = Impl(forward, weigh_means_backward)
