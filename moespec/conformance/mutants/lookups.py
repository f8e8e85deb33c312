"""Defects of experts that are looked up by id: single neurons, copy experts, constants."""

from __future__ import annotations

import numpy as np

from moespec import experts
from moespec.conformance.mutants._mutant import Mutant
from moespec.numerics import widen


def _squared(weights):
    return (widen(weights) * widen(weights)).astype(weights.dtype)


def _weight_before_the_activation(x, indices, weights, w_in, w_out, **attrs):
    """f(w g) instead of w f(g), choice by choice."""
    y, saved = experts.singleton(x, indices, weights, w_in, w_out, **attrs)
    total = np.zeros(y.shape, widen(x).dtype)
    for j in range(indices.shape[1]):
        one = indices[:, j:j + 1]
        total += experts.singleton(widen(x) * widen(weights)[:, j:j + 1], one, np.ones(one.shape), widen(w_in), widen(w_out), **attrs)[0]
    return total.astype(y.dtype), saved


def _missing_is_the_last(x, indices, weights, w_in, w_out, **attrs):
    return experts.singleton(x, np.where(indices < 0, len(w_in) - 1, indices), weights, w_in, w_out, **attrs)


def _embeddings_swapped(x, indices, weights, w_in, w_out, **attrs):
    return experts.singleton(x, indices, weights, w_out, w_in, **attrs)


def _overwritten(saved, dy):
    """Scatter by assignment: of the tokens of an expert only the last counts."""
    dx, dweights, dw_in, _ = experts.singleton_backward(saved, dy)
    ids = saved.indices.ravel()
    later = (ids[:, None] == ids) & (np.arange(ids.size)[:, None] < np.arange(ids.size))
    last = np.where(later.any(1), -1, ids).reshape(saved.indices.shape)
    return dx, dweights, dw_in, experts.singleton_backward(saved._replace(indices=last), dy)[3]


def _copy_twice(x, indices, weights, *, first, last=None):
    return experts.copy(x, indices, _squared(weights), first=first, last=last)


def _last_included(x, indices, weights, *, first, last=None):
    return experts.copy(x, indices, weights, first=first, last=None if last is None else last + 1)


def _first_left_out(x, indices, weights, *, first, last=None):
    return experts.copy(x, indices, weights, first=first + 1, last=None if last is None else max(last, first + 1))


def _one_copy_only(x, indices, weights, *, first, last=None):
    """Whether, not how often: a second copy expert of the same token is lost."""
    seen = np.zeros(len(indices), bool)
    ids = indices.copy()
    for j in range(ids.shape[1]):
        hit = (ids[:, j] >= first) & (ids[:, j] < (np.inf if last is None else last))
        ids[hit & seen, j] = -1
        seen |= hit
    return experts.copy(x, ids, weights, first=first, last=last)


def _copy_weights_detached(saved, dy):
    dx, dweights = experts.copy_backward(saved, dy)
    return dx, np.zeros_like(dweights)


def _shares_swapped(x, indices, weights, w_mix, v, *, first):
    return experts.constant(x, indices, weights, np.flip(w_mix, 2), v, first=first)


def _not_mixed(x, indices, weights, w_mix, v, *, first):
    """The constant alone."""
    shut = w_mix.copy()
    shut[:] = 0
    y, saved = experts.constant(np.zeros_like(x), indices, weights, shut, (2 * widen(v)).astype(v.dtype), first=first)
    return y, saved._replace(inputs=(x, weights, w_mix, v))


def _first_constant_for_all(x, indices, weights, w_mix, v, *, first):
    return experts.constant(x, indices, weights, np.broadcast_to(w_mix[:1], w_mix.shape).copy(), np.broadcast_to(v[:1], v.shape).copy(),
                            first=first)


def _mixture_detached(saved, dy):
    dx, dweights, dw_mix, dv = experts.constant_backward(saved, dy)
    return dx, dweights, np.zeros_like(dw_mix), dv


MUTANTS = (
    Mutant("experts.singleton", "weight inside the activation", _weight_before_the_activation),
    Mutant("experts.singleton", "-1 reads the last expert", _missing_is_the_last),
    Mutant("experts.singleton", "embeddings swapped", _embeddings_swapped),
    Mutant("experts.singleton", "gradient overwrites instead of adding", backward=_overwritten),
    Mutant("experts.copy", "weight applied twice", _copy_twice),
    Mutant("experts.copy", "the last id counts too", _last_included),
    Mutant("experts.copy", "the first id is left out", _first_left_out),
    Mutant("experts.copy", "one copy of a token at most", _one_copy_only),
    Mutant("experts.copy", "no gradient for the weights", backward=_copy_weights_detached),
    Mutant("experts.constant", "shares swapped", _shares_swapped),
    Mutant("experts.constant", "the constant without the token", _not_mixed),
    Mutant("experts.constant", "every id reads the first constant", _first_constant_for_all),
    Mutant("experts.constant", "no gradient for the mixture", backward=_mixture_detached),
)
