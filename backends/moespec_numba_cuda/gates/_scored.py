"""The scores that judge every logit on its own: of all logits, and of the chosen ones."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import convert, empty, flat, read
from moespec_numba_cuda._device import cuda, device
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda._math import exp, log1p, sqrt

SIGMOID, SQRT_SOFTPLUS = 0, 1
KINDS = {"sigmoid": SIGMOID, "sqrt_softplus": SQRT_SOFTPLUS}


def scored(name):
    """The implementation of the score `name`; called selected_..., that of the chosen logits alone."""
    kind = KINDS[name.removeprefix("selected_")]

    def forward(logits, *indices):
        admit(f"gates.{name}", logits, *indices)
        x, ids = read(logits), flat(read(indices[0], "int64")) if indices else empty(0, "int64")
        scores = empty(x.shape, x.dtype)
        _score(items(x.size), flat(x), ids, kind, flat(scores))
        return convert(scores, logits.dtype), (x, scores, ids, logits.dtype)

    def backward(saved, dscores):
        x, scores, ids, dtype = saved
        dlogits = empty(x.shape, x.dtype)
        _through(items(x.size), flat(x), flat(scores), ids, kind, flat(read(dscores, x.dtype)), flat(dlogits))
        return convert(dlogits, dtype)

    return Impl(forward, backward)


@device
def sigmoid_of(x):
    """With full relative accuracy in both tails."""
    zero, one = type(x)(0), type(x)(1)
    tail = exp(x if x < zero else -x)
    return (tail if x < zero else one) / (one + tail)


@device
def score_of(x, kind):
    if kind == SIGMOID:
        return sigmoid_of(x)
    zero = type(x)(0)
    return sqrt((zero if x < zero else x) + log1p(exp(x if x < zero else -x)))


@device
def score_slope(x, score, kind):
    """The derivative where the score is known; 0 where the root of a softplus has underflowed."""
    zero, one = type(x)(0), type(x)(1)
    if kind == SIGMOID:
        return score * (one - score)
    return sigmoid_of(x) / (score + score) if score != zero else zero


@kernel("T1 i1 i T1")
def _score(logits, ids, kind, scores):
    """With ids: 0 at -1."""
    for i in range(cuda.grid(1), len(logits), cuda.gridsize(1)):
        scores[i] = score_of(logits[i], kind) if len(ids) == 0 or ids[i] >= 0 else 0


@kernel("T1 T1 i1 i T1 T1")
def _through(logits, scores, ids, kind, dscores, dlogits):
    for i in range(cuda.grid(1), len(logits), cuda.gridsize(1)):
        dlogits[i] = score_slope(logits[i], scores[i], kind) * dscores[i] if len(ids) == 0 or ids[i] >= 0 else 0
