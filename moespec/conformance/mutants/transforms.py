"""Defects of what is done to logits, states and weights around a selection."""

from __future__ import annotations

import numpy as np

from moespec import gates, numerics
from moespec.conformance.mutants._mutant import Mutant


def _routed_alone(chosen, shared, indices, *, eps=0.0, scale=1.0):
    """The chosen sum to the scale, the shared to the scale again."""
    found, saved = gates.joint_weights(chosen, shared, indices, eps=eps, scale=scale)
    alone, _ = gates.renormalize(chosen, indices, norm="sum", eps=eps, scale=scale)
    return found._replace(weights=alone), saved


def _shared_not_scaled(chosen, shared, indices, *, eps=0.0, scale=1.0):
    found, saved = gates.joint_weights(chosen, shared, indices, eps=eps, scale=scale)
    with np.errstate(all="ignore"):
        return found._replace(shared_weights=(numerics.widen(found.shared_weights) / scale).astype(shared.dtype)), saved


def _shared_divisor_constant(saved, dweights, dshared_weights):
    dchosen, _ = gates.joint_weights_backward(saved, dweights, dshared_weights)
    with np.errstate(all="ignore"):
        return dchosen, (numerics.widen(dshared_weights) / saved.total * saved.scale).astype(saved.dtypes[1])


def _noise_unscaled(logits, noise, *, scale=1.0):
    return gates.add_noise(logits, noise)


def _noise_multiplied(logits, noise, *, scale=1.0):
    with np.errstate(all="ignore"):
        return (numerics.widen(logits) * (1 + scale * numerics.widen(noise))).astype(logits.dtype), gates.add_noise(logits, noise)[1]


def _state_scaled_instead(h, previous, scale):
    return gates.mix_in(previous, h, scale)[0].astype(h.dtype), gates.mix_in(h, previous, scale)[1]


def _previous_is_constant(saved, dmixed):
    dh, dprevious, dscale = gates.mix_in_backward(saved, dmixed)
    return dh, np.zeros_like(dprevious), dscale


MUTANTS = (
    Mutant("gates.joint_weights", "chosen and shared normalised apart", _routed_alone),
    Mutant("gates.joint_weights", "scale left out of the shared", _shared_not_scaled),
    Mutant("gates.joint_weights", "divisor taken as constant for the shared", backward=_shared_divisor_constant),
    Mutant("gates.add_noise", "scale left out", _noise_unscaled),
    Mutant("gates.add_noise", "multiplicative", _noise_multiplied),
    Mutant("gates.mix_in", "the other state scaled", _state_scaled_instead),
    Mutant("gates.mix_in", "no gradient to the previous state", backward=_previous_is_constant),
)
