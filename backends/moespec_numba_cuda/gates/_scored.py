"""The scores that judge every logit on its own: of all logits, and of the chosen ones."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import convert, empty, flat, read
from moespec_numba_cuda._device import cuda, device
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda._math import sqrt
from moespec_numba_cuda.gates._scores import KINDS, SIGMOID, sigmoid_of, softplus_of


def scored(name):
    """The implementation of the score `name`; called selected_..., that of the chosen logits alone."""
    kind = KINDS[name.removeprefix("selected_")]

    def forward(logits, *indices):
        admit(f"gates.{name}", logits, *indices)
        x, ids = read(logits), flat(read(indices[0], "int64")) if indices else empty(0, "int64")
        scores = empty(x.shape, x.dtype)
        _score(items(x.size), flat(x), ids, kind, flat(scores))
        read_again = scores if kind == SIGMOID else x                                # a sigmoid's slope does not ask for its logit
        return convert(scores, logits.dtype), (read_again, scores, ids, logits.dtype)

    def backward(saved, dscores):
        x, scores, ids, dtype = saved
        dlogits = empty(x.shape, x.dtype)
        _through(items(x.size), flat(x), flat(scores), ids, kind, flat(read(dscores, x.dtype)), flat(dlogits))
        return convert(dlogits, dtype)

    return Impl(forward, backward)


@device
def score_of(x, kind, zero, one):
    return sigmoid_of(x, one) if kind == SIGMOID else sqrt(softplus_of(x, zero))


@device
def score_slope(x, score, kind, zero, one):
    """The derivative where the score is known; 0 where the root of a softplus has underflowed."""
    if kind == SIGMOID:
        return score * (one - score)
    return sigmoid_of(x, one) / (score + score) if score != zero else zero


@kernel("T1 i1 i T1")
def _score(logits, ids, kind, scores):
    """With ids: 0 at -1."""
    zero, one = logits.dtype.type(0), logits.dtype.type(1)
    for i in range(cuda.grid(1), len(logits), cuda.gridsize(1)):
        scores[i] = score_of(logits[i], kind, zero, one) if len(ids) == 0 or ids[i] >= 0 else zero


@kernel("T1 T1 i1 i T1 T1")
def _through(logits, scores, ids, kind, dscores, dlogits):
    zero, one = logits.dtype.type(0), logits.dtype.type(1)
    for i in range(cuda.grid(1), len(logits), cuda.gridsize(1)):
        dlogits[i] = score_slope(logits[i], scores[i], kind, zero, one) * dscores[i] if len(ids) == 0 or ids[i] >= 0 else zero
