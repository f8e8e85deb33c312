"""Sigmoid of the chosen logits alone (Llama 4, Command-A)."""

from typing import NamedTuple

import numpy as np

from moespec import corpus, numerics
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    scores: np.ndarray      # T K, not rounded
    live: np.ndarray        # T K
    dtype: np.dtype


def selected_sigmoid(chosen, indices):
    r"""Score a token's chosen logits, each on its own.

    .. math:: s_{tj} = 1 / (1 + e^{-c_{tj}})

    Parameters
    ----------
    chosen : (T, K) real
        Logits of the chosen experts.
    indices : (T, K) integer
        -1: the score is 0, whatever the entry holds.

    Returns
    -------
    scores : (T, K) real
    Saved
        scores.

    References
    ----------
    Llama 4 2025 (top-1 of the logits, then a sigmoid), as in its published code.
    """
    OP.bind(chosen, indices)
    scores, live = numerics.sigmoid(numerics.widen(chosen)), indices >= 0
    return np.where(live, scores, 0.0).astype(chosen.dtype), Saved(scores, live, chosen.dtype)


def selected_sigmoid_backward(saved, dscores):
    r"""From the scores alone, and 0 at -1.

    .. math:: \bar c_{tj} = s_{tj} (1 - s_{tj}) \, \bar s_{tj}
    """
    d = saved.scores * (1 - saved.scores) * numerics.widen(dscores)
    return np.where(saved.live, d, 0.0).astype(saved.dtype)


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    """Chosen logits with -1 among the ids, also over what is not finite."""
    for case in corpus.routings(rng):
        yield case.add(chosen=corpus.normal(rng, *case.inputs["indices"].shape, scale=2.0))
    hidden = np.array([[1.0, np.nan], [np.inf, 2.0], [-np.inf, 0.5]])
    yield Case("nan_left_out", {"chosen": hidden, "indices": np.array([[0, -1], [-1, 1], [-1, 0]])}, {}, frozenset({"nan", "inf"}))
    yield Case("nan_and_inf", {"chosen": hidden, "indices": np.array([[0, 1], [2, 1], [3, 0]])}, {}, frozenset({"nan", "inf"}))


def invalid(name):
    """The wrong inputs that every score of chosen logits refuses."""
    return (
        (Case("other_choices", {"chosen": np.zeros((2, 2)), "indices": np.zeros((2, 3), int)}), ValueError,
         rf"^{name}: indices has shape \(2, 3\), but K must be 2"),
        (Case("integers", {"chosen": np.zeros((2, 2), int), "indices": np.zeros((2, 2), int)}), TypeError, rf"^{name}: chosen has dtype int64"),
    )


def missing_is_zero(run):
    """-1 has score 0 and gradient 0, whatever the entry holds."""
    return (run.inputs["indices"] >= 0) | ((run.outputs.scores == 0) & (run.grads["chosen"] == 0))


def _by_hand(run):
    """1 / (1 + exp(-c)), entry by entry."""
    got = np.asarray(run.outputs.scores, float)
    for t, j in np.argwhere(run.inputs["indices"] >= 0):
        want = 1 / (1 + np.exp(-float(run.inputs["chosen"][t, j])))
        if not (np.isnan(want) and np.isnan(got[t, j])) and not abs(got[t, j] - want) <= 16 * run.unit * want:
            return False
    return True


REQUIREMENTS = (
    Req("SELECTED_SIGMOID-1", "A chosen score is the sigmoid of its logit.", _by_hand),
    Req("SELECTED_SIGMOID-2", "An entry at -1 has score 0 and gradient 0, whatever it holds.", missing_is_zero),
)

OP = Op(
    name="gates.selected_sigmoid",
    inputs=(Arg("chosen", "T K"), Arg("indices", "T K", "index", of="E")),
    outputs=(Arg("scores", "T K"),),
    forward=selected_sigmoid,
    backward=selected_sigmoid_backward,
    cases=cases,
    invalid=invalid("selected_sigmoid"),
    requirements=REQUIREMENTS,
    flops=lambda T, K, **_: (4 * T * K, 3 * T * K),
    refs=("Llama 4 2025",),
)
