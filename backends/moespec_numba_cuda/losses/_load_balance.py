"""losses.load_balance."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import read
from moespec_numba_cuda.losses._balance import coefficients, per_assignment, valid, weigh_means, weigh_means_backward
from moespec_numba_cuda.losses._choices import choice_sums


def forward(probs, indices, mask=None, *, choices=None, normalizer="assignments"):
    dims = admit("losses.load_balance", probs, indices, mask, choices=choices, normalizer=normalizer)
    mask, counted = valid(mask, dims.T)
    columns = dims.K if choices is None else choices
    load = choice_sums(read(indices, "int64"), dims.E, mask, columns=columns)
    coefficient = coefficients(load, counted, scale=dims.E, per=per_assignment(columns, normalizer))
    return weigh_means(probs, coefficient, mask, counted)


IMPL = Impl(forward, weigh_means_backward)
