"""The scores of a token's logits, and of those it chose: softmax, sigmoid, the root of a softplus."""

import numpy as np
from numba import prange

from moespec_numba._exp import exp_down, log1p_unit
from moespec_numba._kernel import OPS, empty, kernel, read
from moespec_numba.gates._softmax import softmax_row, through_softmax_row

SOFTMAX, SIGMOID, SQRT_SOFTPLUS = 0, 1, 2
KINDS = {"softmax": SOFTMAX, "sigmoid": SIGMOID, "sqrt_softplus": SQRT_SOFTPLUS}


@kernel(entry=False)
def score_row(logits, kind, scores):
    """-inf is 0, whatever the score (a softmax has another entry)."""
    one, zero = logits.dtype.type(1), logits.dtype.type(0)
    if kind == SOFTMAX:
        softmax_row(logits, scores)
    elif kind == SIGMOID:
        for e in range(len(logits)):
            tail = exp_down(-abs(logits[e]))                            # from whichever side does not overflow
            scores[e] = (tail if logits[e] < 0 else one) / (one + tail)
    else:
        for e in range(len(logits)):
            scores[e] = np.sqrt(max(logits[e], zero) + log1p_unit(exp_down(-abs(logits[e]))))


@kernel(entry=False)
def through_score_row(logits, scores, kind, dscores, dlogits):
    """The gradient of the logits; only the root of a softplus reads them again."""
    one, two, zero = scores.dtype.type(1), scores.dtype.type(2), scores.dtype.type(0)
    if kind == SOFTMAX:
        through_softmax_row(scores, dscores, dlogits)
    elif kind == SIGMOID:
        for e in range(len(scores)):
            dlogits[e] = scores[e] * (one - scores[e]) * dscores[e]
    else:
        for e in range(len(scores)):
            tail = exp_down(-abs(logits[e]))
            sigmoid = (tail if logits[e] < 0 else one) / (one + tail)
            dlogits[e] = (sigmoid / (two * scores[e]) if scores[e] != 0 else zero) * dscores[e]


def scored(op, kind):
    """(forward, backward) of the op that scores all experts."""

    def forward(logits):
        OPS[op].admit(logits)
        scores, wide = empty(logits.shape, logits.dtype), read(logits)
        _scores(wide, kind, scores)
        return scores, (wide, read(scores))

    def backward(saved, dscores):
        dlogits = empty(dscores.shape, dscores.dtype)
        _through(*saved, kind, read(dscores), dlogits)
        return dlogits

    return forward, backward


def selected(op, kind):
    """(forward, backward) of the op that scores the chosen logits."""

    def forward(chosen, indices):
        OPS[op].admit(chosen, indices)
        ids, logits, scores = read(indices, "int64"), empty(chosen.shape, chosen.dtype), empty(chosen.shape, chosen.dtype)
        _only(read(chosen), ids, -np.inf, logits)
        _scores(read(logits), kind, scores)
        return scores, (read(logits), read(scores), ids)

    def backward(saved, dscores):
        dlogits, dchosen = empty(dscores.shape, dscores.dtype), empty(dscores.shape, dscores.dtype)
        _through(*saved[:2], kind, read(dscores), dlogits)
        _only(read(dlogits), saved[2], 0.0, dchosen)
        return dchosen

    return forward, backward


@kernel(parallel=True)
def _scores(logits, kind, scores):
    for t in prange(len(logits)):
        score_row(logits[t], kind, scores[t])


@kernel(parallel=True)
def _through(logits, scores, kind, dscores, dlogits):
    for t in prange(len(logits)):
        through_score_row(logits[t], scores[t], kind, dscores[t], dlogits[t])


@kernel
def _only(values, ids, missing, out):
    """What has an expert, and `missing` elsewhere."""
    for t in range(len(ids)):
        for j in range(ids.shape[1]):
            out[t, j] = values[t, j] if ids[t, j] >= 0 else missing
