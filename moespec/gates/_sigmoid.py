"""Sigmoid scores: every expert is judged on its own (DeepSeek-V3)."""

from typing import NamedTuple

import numpy as np

from moespec import corpus, numerics
from moespec.op import Arg, Case, Op, Req
from moespec.pairs import FLOOR


class Saved(NamedTuple):
    scores: np.ndarray      # T E, not rounded
    dtype: np.dtype


def sigmoid(logits):
    r"""Affinities in 0 .. 1 that do not compete with each other.

    .. math:: s_{ti} = 1 / (1 + e^{-l_{ti}})

    Held to relative accuracy in the lower tail: what is divided by the sum of the chosen scores needs it.  In the upper tail scores
    saturate at 1 (above a logit of 17 in float32), and distinct logits become ties: a selection on scores and one on logits differ there.

    Parameters
    ----------
    logits : (T, E) real
        -inf gives 0, +inf gives 1; a NaN stays where it is.

    Returns
    -------
    scores : (T, E) real
        In the dtype of `logits`.
    Saved
        scores.

    Notes
    -----
    Stored point (`numerics.stored`): scores.

    References
    ----------
    DeepSeek-V3 2024, eq. 15.
    """
    OP.bind(logits)
    scores = numerics.stored(numerics.sigmoid(numerics.widen(logits)), "scores")
    return scores.astype(logits.dtype), Saved(scores, logits.dtype)


def sigmoid_backward(saved, dscores):
    r"""From the scores alone.

    .. math:: \bar l_{ti} = s_{ti} (1 - s_{ti}) \, \bar s_{ti}
    """
    return (saved.scores * (1 - saved.scores) * numerics.widen(dscores)).astype(saved.dtype)


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    yield from corpus.logits(rng)
    yield Case("saturated", {"logits": np.array([[20.0, 30.0, 40.0, 17.5, 16.0, 0.0]])})
    yield Case("lower_tail", {"logits": -np.arange(1.0, 81.0, 4.0).reshape(2, 10)})


INVALID = (
    (Case("one_dimension", {"logits": np.zeros(8)}), ValueError, r"^sigmoid: logits has shape \(8,\), wanted 2 dimensions \(T, E\)"),
    (Case("integers", {"logits": np.zeros((2, 8), int)}), TypeError, r"^sigmoid: logits has dtype int64, wanted a real floating dtype"),
)


def _mirrored(run):
    """s(l) + s(-l) = 1."""
    l, s = (np.asarray(a, float) for a in (run.inputs["logits"], run.outputs.scores))
    other = np.asarray(run.rerun(logits=-l).scores, float)
    return np.isnan(l) | (np.abs(s + other - 1) <= 4 * run.unit)


def _odds(run):
    """s(l) / s(-l) = exp(l), which the lower tail meets to relative accuracy."""
    l, s = (np.asarray(a, float) for a in (run.inputs["logits"], run.outputs.scores))
    other, odds = np.asarray(run.rerun(logits=-l).scores, float), np.exp(l)
    near = np.abs(s - odds * other) <= (8 * run.unit + (8 + np.abs(l)) * min(run.unit, 2.0**-24)) * odds + 2 * FLOOR[run.dtype.name]
    return ~np.isfinite(l) | (l > 0) | near


REQUIREMENTS = (
    Req("SIGMOID-1", "The scores of a logit and of its negative sum to 1.", _mirrored),
    Req("SIGMOID-2", "Their ratio is the exponential of the logit, to relative accuracy in the lower tail.", _odds),
    Req("SIGMOID-3", "A NaN stays where it is; -inf gives 0 and +inf gives 1.",
        lambda r: (np.isnan(r.outputs.scores) == np.isnan(r.inputs["logits"])) & ((r.inputs["logits"] != -np.inf) | (r.outputs.scores == 0)) & (
            (r.inputs["logits"] != np.inf) | (r.outputs.scores == 1))),
    Req("SIGMOID-4", "An expert's score does not depend on the other experts.",
        lambda r: None if r.dims.E < 2 else np.array_equal(r.rerun(logits=r.inputs["logits"][:, :1]).scores, r.outputs.scores[:, :1], True)),
)

OP = Op(
    name="gates.sigmoid",
    inputs=(Arg("logits", "T E"),),
    outputs=(Arg("scores", "T E"),),
    forward=sigmoid,
    backward=sigmoid_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    flops=lambda T, E, **_: (4 * T * E, 3 * T * E),
    refs=("DeepSeek-V3 2024, eq. 15",),
)
