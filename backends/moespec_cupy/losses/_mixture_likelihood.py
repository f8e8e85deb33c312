"""losses.mixture_likelihood."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, accumulation, empty, read, rows
from moespec_cupy.experts._products import common, like
from moespec_cupy.losses._mean import valid_mean
from moespec_cupy.losses._mixture_nll import KERNELS as MIXTURES

KERNELS = Kernels(__file__, "_mixture_likelihood.cu")


class Saved(NamedTuple):
    logits: Any             # T E
    evidence: Any           # T E
    common: Any             # T E   the logits in the dtype of both
    joint: Any              # T E   log of prior times likelihood
    share: Any              # ()


def forward(logits, evidence):
    dims, (s, v) = admit("losses.mixture_likelihood", logits, evidence), common(logits, evidence)
    acc = accumulation(s.dtype)
    joint, values, posterior = empty(s.shape, acc), empty(dims.T, acc), empty(s.shape, s.dtype)
    MIXTURES("join_prior", rows(dims.T), s, read(v, acc), joint, values, 1.0, *s.shape)
    KERNELS("responsibilities", rows(dims.T), joint, posterior, *s.shape)
    loss, share = valid_mean(values)
    return (loss.astype(accumulation(logits.dtype), copy=False), like(logits, posterior)), Saved(logits, evidence, s, joint, share)


def backward(saved, dloss, dposterior):
    s, joint = saved.common, saved.joint
    dlogits, devidence = empty(s.shape, s.dtype), empty(s.shape, s.dtype)
    KERNELS("mixture_likelihood_backward", rows(len(s)), s, joint, saved.share, read(dloss, joint.dtype), read(dposterior, s.dtype),
            dlogits, devidence, *s.shape)
    return like(saved.logits, dlogits), like(saved.evidence, devidence)


IMPL = Impl(forward, backward)
