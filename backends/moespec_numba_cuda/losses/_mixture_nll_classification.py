"""losses.mixture_nll_classification."""

from __future__ import annotations

from typing import Any, NamedTuple

from moespec.numerics import acc
from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import common, empty, like, read
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda._rows import clear, legal
from moespec_numba_cuda.gates._softmax import softmax_row
from moespec_numba_cuda.losses._lse import lse_row
from moespec_numba_cuda.losses._mean import cotangent, count_valid, counts, per_token
from moespec_numba_cuda.losses._mixtures import mixture, mixture_backward


class Saved(NamedTuple):
    logits: Any             # T E
    outputs: Any            # T E C
    labels: Any             # T
    mask: Any               # T     those with a label
    joint: Any              # T E   log of prior times likelihood, of these
    counted: Any            # 1


def forward(logits, outputs, labels):
    admit("losses.mixture_nll_classification", logits, outputs, labels)
    (s, o), own = common(logits, outputs), read(labels, "int64")
    mask, evidence = empty(len(own), "bool"), empty(s.shape, s.dtype)
    _labelled(items(len(own)), own, o.shape[2], mask)
    _right(items(s.size), o, own, mask, evidence)
    counted = count_valid(mask, len(own))
    loss, joint = mixture(s, evidence, mask, counted, acc(logits))
    return loss, Saved(logits, outputs, own, mask, joint, counted)


def backward(saved, dloss):
    s, o = common(saved.logits, saved.outputs)
    dlogits, posterior = mixture_backward(s, saved.joint, saved.mask, saved.counted, dloss)
    doutputs = empty(o.shape, o.dtype)
    _to_outputs(items(s.size), o, saved.labels, saved.mask, posterior, saved.counted, cotangent(dloss, o.dtype), doutputs)
    return like(saved.logits, dlogits), like(saved.outputs, doutputs)


@kernel("i1 i b1")
def _labelled(labels, classes, mask):
    for t in range(cuda.grid(1), len(labels), cuda.gridsize(1)):
        mask[t] = legal(labels[t], classes) >= 0


@kernel("T3 i1 b1 T2")
def _right(outputs, labels, mask, evidence):
    """The log of the probability that every expert gives the label."""
    experts = outputs.shape[1]
    for i in range(cuda.grid(1), outputs.shape[0] * experts, cuda.gridsize(1)):
        t, e = i // experts, i % experts
        if counts(mask, t):
            evidence[t, e] = outputs[t, e, labels[t]] - lse_row(outputs[t, e])


@kernel("T3 i1 b1 T2 d1 T1 T3")
def _to_outputs(outputs, labels, mask, posterior, counted, dloss, doutputs):
    """Cross entropy of every expert, times its responsibility."""
    experts, classes, share = outputs.shape[1], outputs.shape[2], per_token(1.0, dloss, counted)
    for i in range(cuda.grid(1), outputs.shape[0] * experts, cuda.gridsize(1)):
        t, e = i // experts, i % experts
        if counts(mask, t):
            softmax_row(outputs[t, e], doutputs[t, e])
            doutputs[t, e, labels[t]] -= 1
            for c in range(classes):
                doutputs[t, e, c] *= share * posterior[t, e]
        else:
            clear(doutputs[t, e])


IMPL = Impl(forward, backward)
