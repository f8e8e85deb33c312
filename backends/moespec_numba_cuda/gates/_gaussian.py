"""gates.gaussian."""

from __future__ import annotations

from typing import Any, NamedTuple

from moespec.numerics import acc
from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import common, convert, empty, like
from moespec_numba_cuda._columns import sum_columns
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda._math import exp


class Saved(NamedTuple):
    x: Any                  # T D
    means: Any              # E D
    log_precisions: Any     # E D
    log_priors: Any         # E


def forward(x, means, log_precisions, log_priors):
    dims = admit("gates.gaussian", x, means, log_precisions, log_priors)
    wide = common(x, means, log_precisions, log_priors)
    logits = empty((dims.T, dims.E), wide[0].dtype)
    _forward(items(logits.size), *wide, logits)
    return convert(logits, acc(x)), Saved(x, means, log_precisions, log_priors)


def backward(saved, dlogits):
    *wide, d = common(*saved, dlogits)
    x, means, logs, _ = wide
    (tokens, width), experts = x.shape, len(means)
    dx, pulls, terms = (empty(shape, x.dtype) for shape in (x.shape, (tokens, experts * width), (tokens, experts * width)))
    _to_tokens(items(dx.size), x, means, logs, d, dx)
    _to_experts(items(pulls.size), x, means, logs, d, pulls, terms)
    dmeans, dlogs = (sum_columns(a).reshape(means.shape) for a in (pulls, terms))
    return tuple(like(a, found) for a, found in zip(saved, (dx, dmeans, dlogs, sum_columns(d)), strict=True))


@kernel("T2 T2 T2 T1 T2")
def _forward(x, means, logs, priors, logits):
    experts, half = len(means), x.dtype.type(0.5)
    for i in range(cuda.grid(1), x.shape[0] * experts, cuda.gridsize(1)):
        t, e = i // experts, i % experts
        log = distance = x.dtype.type(0)
        for d in range(x.shape[1]):
            log += logs[e, d]
            distance += exp(logs[e, d]) * ((x[t, d] - means[e, d]) * (x[t, d] - means[e, d]))
        logits[t, e] = priors[e] + half * log - half * distance


@kernel("T2 T2 T2 T2 T2")
def _to_tokens(x, means, logs, dlogits, dx):
    width = x.shape[1]
    for i in range(cuda.grid(1), x.shape[0] * width, cuda.gridsize(1)):
        t, d = i // width, i % width
        total = x.dtype.type(0)
        for e in range(len(means)):
            total -= dlogits[t, e] * (exp(logs[e, d]) * (x[t, d] - means[e, d]))
        dx[t, d] = total


@kernel("T2 T2 T2 T2 T2 T2")
def _to_experts(x, means, logs, dlogits, pulls, terms):
    """What every token adds to a mean and to a precision; a column is an expert and feature."""
    width, half, one = x.shape[1], x.dtype.type(0.5), x.dtype.type(1)
    for i in range(cuda.grid(1), pulls.shape[0] * pulls.shape[1], cuda.gridsize(1)):
        t, j = i // pulls.shape[1], i % pulls.shape[1]
        e, d = j // width, j % width
        error = x[t, d] - means[e, d]
        pull = exp(logs[e, d]) * error
        pulls[t, j] = dlogits[t, e] * pull
        terms[t, j] = half * dlogits[t, e] * (one - pull * error)


IMPL = Impl(forward, backward)
