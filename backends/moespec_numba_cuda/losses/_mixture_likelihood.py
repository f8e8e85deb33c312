"""losses.mixture_likelihood."""

from __future__ import annotations

from typing import Any, NamedTuple

from moespec.numerics import acc
from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import common, convert, empty, like, read, zeros
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda._rows import inner, total
from moespec_numba_cuda.gates._softmax import softmax_row, softmax_rows
from moespec_numba_cuda.losses._mean import cotangent, count_valid, masked, per_token
from moespec_numba_cuda.losses._mixtures import mixture


class Saved(NamedTuple):
    logits: Any             # T E
    evidence: Any           # T E
    joint: Any              # T E   log of prior times likelihood
    counted: Any            # 1


def forward(logits, evidence):
    admit("losses.mixture_likelihood", logits, evidence)
    (s, v), counted = common(logits, evidence), count_valid(masked(None), len(logits))
    loss, joint = mixture(s, v, masked(None), counted, acc(logits))
    return (loss, like(logits, softmax_rows(joint))), Saved(logits, evidence, joint, counted)


def backward(saved, dloss, dposterior):
    logits, evidence, joint, counted = saved
    s = convert(read(logits), joint.dtype)
    d = zeros(1, s.dtype) if dloss is None else cotangent(dloss, s.dtype)
    dh = zeros(s.shape, s.dtype) if dposterior is None else read(dposterior, s.dtype)
    dlogits, devidence = empty(s.shape, s.dtype), empty(s.shape, s.dtype)
    _backward(items(len(s)), s, softmax_rows(joint), counted, d, dh, dlogits, devidence)
    return like(logits, dlogits), like(evidence, devidence)


@kernel("T2 T2 d1 T1 T2 T2 T2")
def _backward(logits, posterior, counted, dloss, dposterior, dlogits, devidence):
    """The prior is computed where the gradient of the logits goes."""
    share = per_token(-1.0, dloss, counted)
    for t in range(cuda.grid(1), logits.shape[0], cuda.gridsize(1)):
        along = inner(posterior[t], dposterior[t])
        for e in range(logits.shape[1]):
            devidence[t, e] = posterior[t, e] * (dposterior[t, e] - along) + share * posterior[t, e]
        whole = total(devidence[t])
        softmax_row(logits[t], dlogits[t])
        for e in range(logits.shape[1]):
            dlogits[t, e] = devidence[t, e] - dlogits[t, e] * whole


IMPL = Impl(forward, backward)
