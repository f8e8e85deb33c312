"""Weights under a mask of experts, which both strictly balanced gates share."""

from typing import Any, NamedTuple

from moespec_cupy._kernel import Kernels, accumulation, empty, read, rows

KERNELS = Kernels(__file__, "_masked.cu")


class Saved(NamedTuple):
    logits: Any             # T E
    indices: Any            # T E   i or -1 in column i


def probabilities(logits):
    """The softmax of rows, not rounded."""
    probs = empty(logits.shape, accumulation(logits.dtype))
    KERNELS("probabilities", rows(len(logits)), read(logits), probs, *logits.shape)
    return probs


def masked_routing(logits, mask):
    """((ids, weights), saved): the probabilities that the mask leaves, divided by their sum."""
    saved, weights = Saved(read(logits), empty(logits.shape, "int64")), empty(logits.shape, logits.dtype)
    KERNELS("masked", rows(len(logits)), saved.logits, read(mask, "int64"), saved.indices, weights, *logits.shape)
    return (saved.indices, weights), saved


def masked_routing_backward(saved, dweights):
    """The gradient of the logits; the mask is constant."""
    dlogits = empty(saved.logits.shape, saved.logits.dtype)
    KERNELS("masked_backward", rows(len(dlogits)), *saved, read(dweights), dlogits, *dlogits.shape)
    return dlogits
