"""Defects of scores, of transforms of logits, and of weights."""

from __future__ import annotations

import numpy as np

from moespec import gates, numerics
from moespec.conformance.mutants._mutant import Mutant


def _tanh_form(logits):
    s = 0.5 * (1 + np.tanh(0.5 * numerics.widen(logits)))              # absolute accuracy: the lower tail is lost
    return s.astype(logits.dtype), gates.sigmoid(logits)[1]


def _softmax_instead(logits):
    return gates.softmax(logits)[0], gates.sigmoid(logits)[1]


def _slope_of_the_complement(saved, dscores):
    return ((1 - saved.scores) * numerics.widen(dscores)).astype(saved.dtype)


def _root_left_out(logits):
    return numerics.softplus(numerics.widen(logits)).astype(logits.dtype), gates.sqrt_softplus(logits)[1]


def _overflows(logits):
    with np.errstate(all="ignore"):
        return np.sqrt(np.log1p(np.exp(numerics.widen(logits)))).astype(logits.dtype), gates.sqrt_softplus(logits)[1]


def _zero_over_zero(saved, dscores):
    with np.errstate(all="ignore"):
        return (numerics.sigmoid(saved.logits) / (2 * saved.scores) * numerics.widen(dscores)).astype(saved.dtype)


def _missing_scored(score):
    def forward(chosen, indices):
        own, saved = getattr(gates, score)(chosen, indices)
        return np.where(indices >= 0, own, own.dtype.type(0.5)), saved
    return forward


def _hidden_nan(chosen, indices):
    scores, saved = gates.selected_sqrt_softplus(chosen, indices)
    return (scores + numerics.widen(chosen) * 0).astype(scores.dtype), saved


def _softmax_over_chosen(chosen, indices):
    return gates.selected_softmax(chosen, indices)[0], gates.selected_sigmoid(chosen, indices)[1]


def _route_softmax(logits, indices=None, **attrs):
    return gates.route(logits, indices, **{**attrs, "score": "softmax"})


MUTANTS = (
    Mutant("gates.sigmoid", "by the hyperbolic tangent: the lower tail lost", _tanh_form),
    Mutant("gates.sigmoid", "softmax", _softmax_instead),
    Mutant("gates.sigmoid", "gradient without the score", backward=_slope_of_the_complement),
    Mutant("gates.sqrt_softplus", "root left out", _root_left_out),
    Mutant("gates.sqrt_softplus", "overflows", _overflows),
    Mutant("gates.sqrt_softplus", "gradient 0/0 where the score underflows", backward=_zero_over_zero),
    Mutant("gates.selected_sigmoid", "-1 scored as a logit of 0", _missing_scored("selected_sigmoid")),
    Mutant("gates.selected_sigmoid", "softmax over the chosen", _softmax_over_chosen),
    Mutant("gates.selected_sqrt_softplus", "-1 scored", _missing_scored("selected_sqrt_softplus")),
    Mutant("gates.selected_sqrt_softplus", "what stands at -1 spoils the score", _hidden_nan),
    Mutant("gates.route", "softmax whatever the score", _route_softmax),
)
