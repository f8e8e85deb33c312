"""The square root of a softplus, of the chosen logits alone."""

from typing import NamedTuple

import numpy as np

from moespec.gates._selected_sigmoid import cases, invalid, missing_is_zero
from moespec.gates._sqrt_softplus import slope, squared, tame, value
from moespec.numerics import widen
from moespec.op import Arg, Op, Req


class Saved(NamedTuple):
    chosen: np.ndarray      # T K, in the accumulation dtype
    scores: np.ndarray      # T K, not rounded
    live: np.ndarray        # T K
    dtype: np.dtype


def selected_sqrt_softplus(chosen, indices):
    r"""Score a token's chosen logits, each on its own.

    .. math:: s_{tj} = \sqrt{\log(1 + e^{c_{tj}})}

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
        chosen, scores.

    References
    ----------
    DeepSeek-V4 2026, section 2.1.
    """
    OP.bind(chosen, indices)
    wide, live = widen(chosen), indices >= 0
    scores = value(wide)
    return np.where(live, scores, 0.0).astype(chosen.dtype), Saved(wide, scores, live, chosen.dtype)


def selected_sqrt_softplus_backward(saved, dscores):
    r"""As in `sqrt_softplus`, and 0 at -1.

    .. math:: \bar c_{tj} = \frac{\mathrm{sigmoid}(c_{tj})}{2 s_{tj}} \, \bar s_{tj}
    """
    d = slope(saved.chosen, saved.scores) * widen(dscores)
    return np.where(saved.live, d, 0.0).astype(saved.dtype)


# ---- what is checked -------------------------------------------------------------------------------------------------

def _live(run, array):
    """The entries that are chosen."""
    return np.asarray(array)[run.inputs["indices"] >= 0]


REQUIREMENTS = (
    Req("SELECTED_SQRT_SOFTPLUS-1", "The exponential of a squared score is 1 plus the exponential of its logit.",
        lambda r: squared(r, _live(r, r.inputs["chosen"]), _live(r, r.outputs.scores))),
    Req("SELECTED_SQRT_SOFTPLUS-2", "An entry at -1 has score 0 and gradient 0, whatever it holds.", missing_is_zero),
    Req("SELECTED_SQRT_SOFTPLUS-3", "The gradient is finite and below half the cotangent.",
        lambda r: tame(r, _live(r, r.inputs["chosen"]), _live(r, r.grads["chosen"]), _live(r, r.cotangents["scores"]))),
)

OP = Op(
    name="gates.selected_sqrt_softplus",
    inputs=(Arg("chosen", "T K"), Arg("indices", "T K", "index", of="E")),
    outputs=(Arg("scores", "T K"),),
    forward=selected_sqrt_softplus,
    backward=selected_sqrt_softplus_backward,
    cases=cases,
    invalid=invalid("selected_sqrt_softplus"),
    requirements=REQUIREMENTS,
    flops=lambda T, K, **_: (6 * T * K, 6 * T * K),
    refs=("DeepSeek-V4 2026, section 2.1",),
)
