"""Scores of the logits of one token: softmax, sigmoid, the root of a softplus."""

from __future__ import annotations

from moespec_numba_cuda._device import device
from moespec_numba_cuda._math import exp, log1p, sqrt
from moespec_numba_cuda.gates._softmax import softmax_row, through_softmax_row

SOFTMAX, SIGMOID, SQRT_SOFTPLUS = 0, 1, 2
KINDS = {"softmax": SOFTMAX, "sigmoid": SIGMOID, "sqrt_softplus": SQRT_SOFTPLUS}


@device
def sigmoid_of(x, one):
    """With full relative accuracy in both tails; `one` is 1 in the dtype of x."""
    tail = exp(-abs(x))
    return (tail if x < 0 else one) / (one + tail)


@device
def softplus_of(x, zero):
    """log(1 + exp(x)), without overflow; `zero` is 0 in the dtype of x."""
    return (x if x > zero else zero) + log1p(exp(-abs(x)))


@device
def score_row(logits, kind, scores):
    """A logit of -inf has score 0, if another one is larger where it is a softmax."""
    zero, one = logits.dtype.type(0), logits.dtype.type(1)
    if kind == SOFTMAX:
        softmax_row(logits, scores)
    elif kind == SIGMOID:
        for e in range(len(logits)):
            scores[e] = sigmoid_of(logits[e], one)
    else:
        for e in range(len(logits)):
            scores[e] = sqrt(softplus_of(logits[e], zero))


@device
def through_score_row(logits, scores, kind, dscores, dlogits):
    """The gradient of the logits, which may take the place of `dscores`; only the root of a softplus reads the logits again."""
    zero, one = scores.dtype.type(0), scores.dtype.type(1)
    if kind == SOFTMAX:
        through_softmax_row(scores, dscores, dlogits)
    elif kind == SIGMOID:
        for e in range(len(scores)):
            dlogits[e] = scores[e] * (one - scores[e]) * dscores[e]
    else:
        for e in range(len(scores)):
            slope = sigmoid_of(logits[e], one) / (scores[e] + scores[e]) if scores[e] != 0 else zero         # both have underflowed
            dlogits[e] = slope * dscores[e]
