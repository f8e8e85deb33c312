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


def _p_ignored(chosen, indices, **attrs):
    return gates.renormalize(chosen, indices, **{**attrs, "p": 1.0})


def _not_to_the_power_of_one_over_p(chosen, indices, *, norm="none", **attrs):
    weights, saved = gates.renormalize(chosen, indices, norm=norm, **attrs)
    if norm != "lp":
        return weights, saved
    size = np.where(indices >= 0, np.abs(numerics.widen(chosen)), 0) ** attrs.get("p", 1.0)
    with np.errstate(all="ignore"):
        y = numerics.widen(chosen) / (size.sum(1, keepdims=True) + attrs.get("eps", 0.0)) * attrs.get("scale", 1.0)
    return np.where(indices >= 0, y, 0).astype(weights.dtype), saved


def _route_softmax(logits, indices=None, **attrs):
    return gates.route(logits, indices, **{**attrs, "score": "softmax"})


def _softcap_hard(logits, *, cap):
    return np.clip(logits, logits.dtype.type(-cap), logits.dtype.type(cap)), gates.softcap(logits, cap=cap)[1]


def _softcap_not_multiplied_back(logits, *, cap):
    return np.tanh(numerics.widen(logits) / cap).astype(logits.dtype), gates.softcap(logits, cap=cap)[1]


def _softcap_slope_over_cap(cap):
    def backward(saved, dcapped):
        return (numerics.widen(gates.softcap_backward(saved, dcapped)) / cap).astype(saved.dtype)
    return backward


def _divided(logits, *, factor):
    return (numerics.widen(logits) / factor).astype(logits.dtype), gates.rescale(logits, factor=factor)[1]


def _factor_left_out(saved, dscaled):
    return dscaled.astype(saved.dtype)


def _scale_of_the_last_token(saved, dscaled):
    dweights, dscale = gates.scale_weights_backward(saved, dscaled)
    d, w = numerics.widen(dscaled), numerics.widen(saved.weights)
    return dweights, (d[-1:] * w[-1:]).sum().astype(dscale.dtype)


def _scale_twice(weights, scale):
    g = numerics.widen(scale)
    return (numerics.widen(weights) * g * g).astype(weights.dtype), gates.scale_weights(weights, scale)[1]


def _scale_of_the_place(weights, indices, scale):
    places = np.where(indices >= 0, np.arange(indices.shape[1]) % len(scale), -1)         # the j-th scale for the j-th choice
    return gates.scale_experts(weights, places, scale)[0], gates.scale_experts(weights, indices, scale)[1]


def _scale_overwrites(saved, dscaled):
    dweights, dscale = gates.scale_experts_backward(saved, dscaled)
    last = np.zeros_like(dscale)
    live = saved.indices >= 0
    last[saved.indices[live]] = (numerics.widen(dscaled) * numerics.widen(saved.weights)).astype(dscale.dtype)[live]
    return dweights, last


def _norm_eps_outside(x, scale=None, *, eps=1e-6, factor=1.0, **attrs):
    right, saved = gates.rms_norm(x, scale, eps=eps, factor=factor, **attrs)
    wide = numerics.widen(x) * saved.gain if attrs.get("before") else numerics.widen(x)
    with np.errstate(all="ignore"):
        root = np.sqrt((wide * wide).mean(1, keepdims=True))
        return (numerics.widen(right) / saved.inverse / (root + eps)).astype(x.dtype), saved


def _norm_by_sum(x, scale=None, *, factor=1.0, **attrs):
    return gates.rms_norm(x, scale, factor=factor * x.shape[1]**-0.5, **attrs)[0], gates.rms_norm(x, scale, factor=factor, **attrs)[1]


def _norm_as_constant(saved, dy):
    _, dscale = gates.rms_norm_backward(saved, dy)
    u = numerics.widen(dy) * saved.attrs[0] * saved.inverse
    return (u if saved.gain is None else u * saved.gain).astype(saved.x.dtype), dscale


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
    Mutant("gates.renormalize", "p ignored", _p_ignored),
    Mutant("gates.renormalize", "root of the p-norm left out", _not_to_the_power_of_one_over_p),
    Mutant("gates.route", "softmax whatever the score", _route_softmax),
    Mutant("gates.softcap", "a hard clip", _softcap_hard),
    Mutant("gates.softcap", "not multiplied back", _softcap_not_multiplied_back),
    Mutant("gates.softcap", "gradient divided by the cap", backward=_softcap_slope_over_cap(5.0)),
    Mutant("gates.rescale", "divided by the factor", _divided),
    Mutant("gates.rescale", "factor left out of the gradient", backward=_factor_left_out),
    Mutant("gates.scale_weights", "scale applied twice", _scale_twice),
    Mutant("gates.scale_weights", "gradient of the scale from the last token", backward=_scale_of_the_last_token),
    Mutant("gates.scale_experts", "scale of the choice instead of the expert", _scale_of_the_place),
    Mutant("gates.scale_experts", "gradient overwrites instead of adding", backward=_scale_overwrites),
    Mutant("gates.rms_norm", "eps outside the root", _norm_eps_outside),
    Mutant("gates.rms_norm", "divided by the length instead of the mean square", _norm_by_sum),
    Mutant("gates.rms_norm", "norm taken as constant in backward", backward=_norm_as_constant),
)
