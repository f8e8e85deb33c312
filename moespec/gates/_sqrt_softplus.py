"""Scores by the square root of a softplus: positive, unbounded, and never saturated (DeepSeek-V4)."""

from typing import NamedTuple

import numpy as np

from moespec import corpus, numerics
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    logits: np.ndarray      # T E, in the accumulation dtype
    scores: np.ndarray      # T E, not rounded
    dtype: np.dtype


def sqrt_softplus(logits):
    r"""Positive affinities that grow like the square root of their logit.

    .. math:: s_{ti} = \sqrt{\log(1 + e^{l_{ti}})}

    Parameters
    ----------
    logits : (T, E) real
        -inf gives 0, +inf gives +inf; a NaN stays where it is.

    Returns
    -------
    scores : (T, E) real
        In the dtype of `logits`.
    Saved
        logits, scores.

    References
    ----------
    DeepSeek-V4 2026, section 2.1 (as in its published checkpoints' code).
    """
    OP.bind(logits)
    l = numerics.widen(logits)
    scores = value(l)
    return scores.astype(logits.dtype), Saved(l, scores, logits.dtype)


def sqrt_softplus_backward(saved, dscores):
    r"""Finite everywhere: the derivative goes to 0 with the score, so it is 0 where the score has underflowed (and not 0/0).

    .. math:: \bar l_{ti} = \frac{\mathrm{sigmoid}(l_{ti})}{2 s_{ti}} \, \bar s_{ti}
    """
    return (slope(saved.logits, saved.scores) * numerics.widen(dscores)).astype(saved.dtype)


def value(l):
    """The score of a logit."""
    return np.sqrt(numerics.softplus(l))


def slope(l, scores):
    """The derivative of `value` at `l`, where it is `scores`."""
    with np.errstate(all="ignore"):
        return numerics.safe_divide(numerics.sigmoid(l), 2 * scores)


# ---- what is checked -------------------------------------------------------------------------------------------------

UNDERFLOWN = ("huge", "all_negative")          # a bound that covers flushing says nothing about the slope of what is flushed


def cases(rng):
    yield from (case for case in corpus.logits(rng) if case.name not in UNDERFLOWN)
    yield Case("lower_tail", {"logits": -np.arange(1.0, 81.0, 4.0).reshape(2, 10)}, {}, frozenset({"steep"}))
    far = corpus.normal(rng, 4, 8)
    far[0, 0], far[1, 3], far[3, 7] = -1000, -120, 1000                          # exp(-120) is 0 in float32
    yield Case("score_underflows", {"logits": far}, {}, frozenset({"steep"}))


INVALID = (
    (Case("one_dimension", {"logits": np.zeros(8)}), ValueError, r"^sqrt_softplus: logits has shape \(8,\), wanted 2 dimensions \(T, E\)"),
    (Case("integers", {"logits": np.zeros((2, 8), int)}), TypeError, r"^sqrt_softplus: logits has dtype int64"),
)


def squared(run, l, s):
    """expm1(s^2) = exp(l), where that is neither tiny nor huge."""
    l, s = np.asarray(l, float), np.asarray(s, float)
    calm = np.abs(l) < 30
    return ~calm | (np.abs(np.expm1(s * s) - np.exp(l)) <= 8 * run.unit * (1 + s * s) * (1 + np.exp(l)) * np.minimum(s * s + run.unit, 1))


def tame(run, l, d, dy):
    """A gradient is finite, and at most half the cotangent."""
    d, dy = np.asarray(d, float), np.asarray(dy, float)
    return np.isnan(np.asarray(l, float)) | (np.abs(d) <= (0.5 + 4 * run.unit) * np.abs(dy))


REQUIREMENTS = (
    Req("SQRT_SOFTPLUS-1", "The exponential of the squared score is 1 plus the exponential of the logit.",
        lambda r: squared(r, r.inputs["logits"], r.outputs.scores)),
    Req("SQRT_SOFTPLUS-2", "The gradient is finite and below half the cotangent, also where the score underflows.",
        lambda r: tame(r, r.inputs["logits"], r.grads["logits"], r.cotangents["scores"])),
    Req("SQRT_SOFTPLUS-3", "Scores are not negative; only a NaN gives a NaN.",
        lambda r: (np.isnan(r.outputs.scores) == np.isnan(r.inputs["logits"])) & ~(r.outputs.scores < 0)),
)

OP = Op(
    name="gates.sqrt_softplus",
    inputs=(Arg("logits", "T E"),),
    outputs=(Arg("scores", "T E"),),
    forward=sqrt_softplus,
    backward=sqrt_softplus_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    flops=lambda T, E, **_: (6 * T * E, 6 * T * E),
    refs=("DeepSeek-V4 2026, section 2.1",),
)
