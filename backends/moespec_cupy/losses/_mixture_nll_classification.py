"""losses.mixture_nll_classification."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, accumulation, empty, read, rows, zeros
from moespec_cupy.experts._products import common, like
from moespec_cupy.losses._mean import valid_mean

KERNELS = Kernels(__file__, "_mixtures.cu")


class Saved(NamedTuple):
    logits: Any             # T E
    outputs: Any            # T E C
    arrays: list            # both in one dtype
    labels: Any             # T
    counts: Any             # T     whether there is a label
    joint: Any              # T E   log of prior times likelihood
    share: Any              # ()


def forward(logits, outputs, labels):
    dims, (s, o) = admit("losses.mixture_nll_classification", logits, outputs, labels), common(logits, outputs)
    acc, labels, counts = accumulation(s.dtype), read(labels, "int64"), zeros(len(labels), "bool")
    likelihood, joint, values = empty(s.shape, acc), empty(s.shape, acc), empty(dims.T, acc)
    KERNELS("label_likelihoods", rows(s.size), o, labels, likelihood, counts, *o.shape)
    KERNELS("join_prior", rows(dims.T), s, likelihood, joint, values, 1.0, *s.shape)
    loss, share = valid_mean(values, counts)
    return loss.astype(accumulation(logits.dtype), copy=False), Saved(logits, outputs, [s, o], labels, counts, joint, share)


def backward(saved, dloss):
    (s, o), joint, dloss = saved.arrays, saved.joint, read(dloss, saved.joint.dtype)
    posterior, dlogits, doutputs = empty(joint.shape, joint.dtype), empty(s.shape, s.dtype), empty(o.shape, o.dtype)
    KERNELS("join_prior_backward", rows(len(s)), s, joint, saved.counts, saved.share, dloss, posterior, dlogits, *s.shape)
    KERNELS("labels_backward", rows(s.size), o, saved.labels, posterior, saved.share, dloss, doutputs, *o.shape)
    return like(saved.logits, dlogits), like(saved.outputs, doutputs)


IMPL = Impl(forward, backward)
