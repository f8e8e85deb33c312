"""The importance loss: experts should get equal weight over the batch (Shazeer et al. 2017, eqs 6-7)."""

from typing import NamedTuple

import numpy as np

from moespec import corpus, indexing
from moespec.losses._checks import near
from moespec.losses._cooperation import LOSS
from moespec.losses._cv2 import cv2, cv2_backward
from moespec.numerics import acc, widen
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    indices: np.ndarray     # T K
    dtype: np.dtype
    importance: np.ndarray  # E


def importance_cv2(indices, weights, *, experts):
    r"""Squared coefficient of variation of the experts' importance.

    .. math:: \mathrm{Importance}_i = \sum_{tj : i_{tj} = i} w_{tj}, \qquad
              L = \mathrm{CV}^2 = \frac{\tfrac1E \sum_i (\mathrm{Importance}_i - m)^2}{m^2}

    The variance is the population's (divided by E): 0 for equal importance, E - 1 if one expert has it all.  Without any
    weight (no tokens, all ids -1) the loss is 0.

    Parameters
    ----------
    indices : (T, K) integer
        -1 does not count; a repeated id counts twice.
    weights : (T, K) real
    experts : int
        E.

    Returns
    -------
    loss : () real
        In the accumulation dtype.
    Saved
        indices, importance.

    Raises
    ------
    ValueError
        An id outside -1 .. E-1.

    References
    ----------
    Shazeer et al. 2017, eqs 6 and 7 (the coefficient w_importance is the layer's).
    """
    OP.admit(indices, weights, experts=experts)
    importance = indexing.add_rows(widen(weights), indices, experts)
    return cv2(importance).astype(acc(weights)), Saved(indices, weights.dtype, importance)


def importance_cv2_backward(saved, dloss):
    r"""Through the importance alone: every weight of an expert gets the same.

    .. math:: \bar w_{tj} = \Big( \frac{2 (v_i - m)}{E m^2} - \frac{2 s^2}{E m^3} \Big) \bar L, \qquad i = i_{tj}
    """
    return indexing.take_rows(cv2_backward(saved.importance, dloss), saved.indices).astype(saved.dtype)


def _check(dims, indices, weights, *, experts):
    indexing.require_ids("importance_cv2", indices, experts)


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for case in corpus.routings(rng):
        yield case.add(weights=np.abs(corpus.normal(rng, *case.inputs["indices"].shape)) + 0.1).with_(experts=8)
    even = {"indices": np.tile(np.arange(4), (2, 1)), "weights": np.tile([0.5, 0.5, 0.5, 0.5], (2, 1))}
    yield Case("equal", even, {"experts": 4}, frozenset({"exact"}))
    yield Case("one_to_four", {**even, "weights": np.array([[0.5, 1, 1.5, 2]] * 2)}, {"experts": 4})
    yield Case("one_has_all", {"indices": np.zeros((4, 1), int), "weights": np.ones((4, 1))}, {"experts": 4}, frozenset({"exact"}))
    yield Case("near_balance", {**even, "weights": 0.5 + corpus.normal(rng, 2, 4, scale=2.0**-7)}, {"experts": 4})
    yield Case("nan_weight", {**even, "weights": np.array([[0.5, np.nan, 0.5, 0.5]] * 2)}, {"experts": 4}, frozenset({"nan"}))


INVALID = (
    (Case("id_too_large", {"indices": np.full((2, 1), 4), "weights": np.ones((2, 1))}, {"experts": 4}), ValueError,
     r"importance_cv2: indices holds 4, outside -1 \.\. 3 \(indices has shape \(2, 1\)\)"),
    (Case("other_choices", {"indices": np.zeros((2, 1), int), "weights": np.ones((2, 2))}, {"experts": 4}), ValueError,
     r"importance_cv2: weights has shape \(2, 2\), but K must be 1"),
)


def _by_hand(run):
    v = [0.0] * run.dims.experts
    for i, w in zip(run.inputs["indices"].ravel(), np.asarray(run.inputs["weights"], float).ravel(), strict=True):
        if i >= 0:
            v[i] += w
    m = sum(v) / len(v)
    want = sum((x - m) ** 2 for x in v) / len(v) / m**2 if m else 0.0
    return near(run, run.outputs.loss, want, want + 1e-3)


REQUIREMENTS = (
    Req("IMPORTANCE_CV2-1", "The loss is the population variance over the squared mean of the experts' summed weights.", _by_hand),
    Req("IMPORTANCE_CV2-2", "It is at most E - 1, which one expert with all the weight attains.",
        lambda r: ~(np.asarray(r.outputs.loss) > (r.dims.experts - 1) * (1 + 1e-6))),
    Req("IMPORTANCE_CV2-3", "Weights at -1 get gradient 0.", lambda r: (r.inputs["indices"] >= 0) | (r.grads["weights"] == 0)),
)

OP = Op(
    name="losses.importance_cv2",
    inputs=(Arg("indices", "T K", "index", of="E"), Arg("weights", "T K")),
    outputs=(LOSS,),
    forward=importance_cv2,
    backward=importance_cv2_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, K, experts, **_: (T * K + 4 * experts, T * K + 6 * experts),
    refs=("Shazeer et al. 2017, eqs 6-7",),
)
