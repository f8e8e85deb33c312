"""losses.mixture_nll."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, accumulation, empty, items, read, rows
from moespec_cupy.experts._products import common, like
from moespec_cupy.losses._mean import valid_mean

KERNELS = Kernels(__file__, "_mixtures.cu")


class Saved(NamedTuple):
    logits: Any             # T E
    outputs: Any            # T E C
    arrays: list            # both and the target in one dtype
    joint: Any              # T E   log of prior times likelihood
    share: Any              # ()
    sigma: float


def forward(logits, outputs, target, *, sigma=1.0):
    dims, (s, o, d) = admit("losses.mixture_nll", logits, outputs, target, sigma=sigma), common(logits, outputs, target)
    acc = accumulation(s.dtype)
    squared, joint, values = empty(s.shape, acc), empty(s.shape, acc), empty(dims.T, acc)
    KERNELS("squared_errors", rows(s.size), o, d, squared, *o.shape)
    KERNELS("join_prior", rows(dims.T), s, squared, joint, values, -0.5 / sigma**2, *s.shape)
    loss, share = valid_mean(values)
    return loss.astype(accumulation(logits.dtype), copy=False), Saved(logits, outputs, [s, o, d], joint, share, sigma)


def backward(saved, dloss):
    (s, o, d), joint, dloss = saved.arrays, saved.joint, read(dloss, saved.joint.dtype)
    posterior, dlogits, doutputs = empty(joint.shape, joint.dtype), empty(s.shape, s.dtype), empty(o.shape, o.dtype)
    KERNELS("join_prior_backward", rows(len(s)), s, joint, None, saved.share, dloss, posterior, dlogits, *s.shape)
    scale = 1 / (max(len(s), 1) * saved.sigma**2)
    KERNELS("errors_backward", items(o.size), posterior, o, d, dloss, doutputs, scale, o.size, *o.shape[1:])
    return like(saved.logits, dlogits), like(saved.outputs, doutputs)


IMPL = Impl(forward, backward)
