"""The nonlinearity of gated experts: from the pre-activations of gate and up projection to the two factors of the hidden layer."""

from typing import NamedTuple

import numpy as np

from moespec.experts._activations import ACTIVATIONS, require_activation
from moespec.numerics import expit

LIMITED = ("pre", "post")


class Gating(NamedTuple):
    """The attributes of `glu` that shape its hidden layer."""

    activation: str = "silu"
    limit: float | None = None
    limit_at: str = "pre"
    alpha: float = 1.0
    up_offset: float = 0.0
    cap_gate: float | None = None
    cap_up: float | None = None


def gate(g, a):
    """s: the factor that the gate contributes."""
    if a.limit is None:
        return _curve(g, a)
    if a.limit_at == "pre":
        return _curve(np.minimum(g, a.limit), a)
    return np.minimum(_curve(g, a), a.limit)


def pull_gate(ds, g, a):
    """The cotangent of g; 0 where the limit holds s, passed at equality."""
    if a.limit is None:
        return ds * _slope(g, a)
    if a.limit_at == "pre":
        return np.where(g > a.limit, 0.0, ds * _slope(np.minimum(g, a.limit), a))
    return np.where(_curve(g, a) > a.limit, 0.0, ds * _slope(g, a))


def up(u, a):
    """v: the factor that the up projection contributes."""
    if a.limit is not None:
        u = np.clip(u, -a.limit, a.limit)
    if a.cap_up is not None:
        u = a.cap_up * np.tanh(u / a.cap_up)
    return u + a.up_offset if a.up_offset else u


def pull_up(dv, u, a):
    """The cotangent of u, likewise."""
    if a.cap_up is not None:
        inside = u if a.limit is None else np.clip(u, -a.limit, a.limit)
        dv = dv * (1 - np.square(np.tanh(inside / a.cap_up)))
    return dv if a.limit is None else np.where(np.abs(u) > a.limit, 0.0, dv)


def _plain(a):
    return a.alpha == 1 and a.cap_gate is None


def _curve(g, a):
    """f(g), or the generalised SiLU cap(g) sigmoid(alpha g)."""
    if _plain(a):
        return ACTIVATIONS[a.activation].value(g)
    return (g if a.cap_gate is None else a.cap_gate * np.tanh(g / a.cap_gate)) * expit(a.alpha * g)


def _slope(g, a):
    if _plain(a):
        return ACTIVATIONS[a.activation].slope(g)
    s = expit(a.alpha * g)
    if a.cap_gate is None:
        return s * (1 + a.alpha * g * (1 - s))
    t = np.tanh(g / a.cap_gate)
    return s * (1 - t * t + a.alpha * a.cap_gate * t * (1 - s))


def require_gating(name, a, where):
    """Refuse attributes that are unknown, out of range, or contradict the activation; `where` tells the shape of an input."""
    require_activation(name, a.activation, where)
    if a.limit_at not in LIMITED:
        raise ValueError(f"{name}: limit_at={a.limit_at!r} is not one of {', '.join(LIMITED)} ({where})")
    for attr in ("limit", "alpha", "cap_gate", "cap_up"):
        given = getattr(a, attr)
        if given is not None and not given > 0:
            raise ValueError(f"{name}: {attr}={given} must be above 0 ({where})")
    for attr, neutral in (("alpha", 1), ("cap_gate", None)):
        if getattr(a, attr) != neutral and a.activation != "silu":
            raise ValueError(f"{name}: {attr}={getattr(a, attr)} belongs to the activation silu, got {a.activation!r} ({where})")
