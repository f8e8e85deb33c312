"""losses.mixture_nll."""

from __future__ import annotations

from typing import Any, NamedTuple

from moespec.numerics import acc
from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arithmetic import scale
from moespec_numba_cuda._arrays import common, like
from moespec_numba_cuda.losses._errors import squared_distances, to_outputs
from moespec_numba_cuda.losses._mean import count_valid, masked
from moespec_numba_cuda.losses._mixtures import mixture, mixture_backward


class Saved(NamedTuple):
    logits: Any             # T E
    outputs: Any            # T E C
    target: Any             # T C
    joint: Any              # T E   log of prior times likelihood
    counted: Any            # 1
    sigma: float


def forward(logits, outputs, target, *, sigma=1.0):
    admit("losses.mixture_nll", logits, outputs, target, sigma=sigma)
    (s, o, d), counted = common(logits, outputs, target), count_valid(masked(None), len(logits))
    evidence = scale(squared_distances(o, d), -1.0 / (2.0 * sigma**2))
    loss, joint = mixture(s, evidence, masked(None), counted, acc(logits))
    return loss, Saved(logits, outputs, target, joint, counted, sigma)


def backward(saved, dloss):
    s, o, d = common(*saved[:3])
    dlogits, posterior = mixture_backward(s, saved.joint, masked(None), saved.counted, dloss)
    doutputs = to_outputs(-1.0 / saved.sigma**2, posterior, o, d, saved.counted, dloss)
    return like(saved.logits, dlogits), like(saved.outputs, doutputs)


IMPL = Impl(forward, backward)
