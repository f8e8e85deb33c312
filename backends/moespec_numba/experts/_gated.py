"""The hidden layer of gated experts, a row at a time: h = c s(g) v(u), and back.

Plain units, s = f and v(u) = u, take a short way; limits, caps, alpha and the offset another one, in which no limit is an
infinite one and no cap is 0.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from moespec_numba._kernel import kernel
from moespec_numba._vector import inner
from moespec_numba.experts._activations import NUMBER, sigmoid, value, value_and_slope


class Gating(NamedTuple):
    """The attributes as a kernel takes them; the numbers in the dtype that it computes in."""

    kind: int
    plain: bool
    general: bool           # cap(z) sigmoid(alpha z) in place of f
    before: np.floating     # limit of the gate, before the activation
    after: np.floating      # limit of the activation
    beside: np.floating     # limit of the up projection
    alpha: np.floating
    offset: np.floating
    cap_gate: np.floating
    cap_up: np.floating


@lru_cache(maxsize=64)
def gating(dtype, activation="silu", limit=None, limit_at="pre", alpha=1.0, up_offset=0.0, cap_gate=None, cap_up=None):
    general = alpha != 1 or cap_gate is not None
    plain = not general and limit is None and not up_offset and cap_up is None
    none = limit is None
    limits = (np.inf if none or limit_at != "pre" else limit, np.inf if none or limit_at != "post" else limit, np.inf if none else limit)
    return Gating(NUMBER[activation], plain, general, *map(np.dtype(dtype).type, (*limits, alpha, up_offset, cap_gate or 0, cap_up or 0)))


@kernel(entry=False)
def gate(a, g, u, c, z, h):
    """h = c s(g) v(u); `z` is scratch."""
    _limit_gate(a, g, z)
    if a.general:
        for j in range(len(z)):
            h[j] = _capped(a, z[j])[0] * sigmoid(a.alpha * z[j])
    else:
        value(a.kind, z, h)
    if a.plain:
        for j in range(len(g)):
            h[j] = c * (h[j] * u[j])
    else:
        for j in range(len(g)):
            h[j] = c * ((a.after if h[j] > a.after else h[j]) * _up(a, u[j]))


@kernel(entry=False)
def ungate(a, g, u, c, z, s, slope, dh, du):
    """From dh, the cotangent of h / c: dh becomes dg, `du` is written; returns <dh, s v>.  `z`, `s` and `slope` are scratch."""
    one = g.dtype.type(1)
    _limit_gate(a, g, z)
    if a.general:
        for j in range(len(z)):
            (t, through), p = _capped(a, z[j]), sigmoid(a.alpha * z[j])
            s[j], slope[j] = t * p, p * (through + a.alpha * t * (one - p))
    else:
        value_and_slope(a.kind, z, s, slope)
    if a.plain:
        for j in range(len(g)):
            z[j] = s[j] * u[j]
        along = inner(dh, z)
        for j in range(len(g)):
            d = c * dh[j]
            du[j], dh[j] = d * s[j], d * u[j] * slope[j]
    else:
        for j in range(len(g)):
            du[j] = _up(a, u[j])
            z[j] = (a.after if s[j] > a.after else s[j]) * du[j]
        along = inner(dh, z)
        for j in range(len(g)):
            d, v, held = c * dh[j], du[j], s[j] > a.after or g[j] > a.before
            du[j] = _through_up(a, u[j], d * (a.after if s[j] > a.after else s[j]))
            dh[j] = 0 if held else d * v * slope[j]
    return along


@kernel(entry=False)
def _limit_gate(a, g, z):
    """What f is applied to."""
    for j in range(len(g)):
        z[j] = a.before if g[j] > a.before else g[j]


@kernel(entry=False)
def _capped(a, z):
    """cap(z), and its derivative."""
    if a.cap_gate == 0:
        return z, type(z)(1)
    t = math.tanh(z / a.cap_gate)
    return a.cap_gate * t, type(z)(1) - t * t


@kernel(entry=False)
def _up(a, u):
    v = _limited(a, u)
    return (v if a.cap_up == 0 else a.cap_up * math.tanh(v / a.cap_up)) + a.offset


@kernel(entry=False)
def _through_up(a, u, dv):
    t = math.tanh(_limited(a, u) / a.cap_up) if a.cap_up != 0 else dv * 0
    return dv * 0 if abs(u) > a.beside else dv * (type(u)(1) - t * t)


@kernel(entry=False)
def _limited(a, u):
    return a.beside if u > a.beside else (-a.beside if u < -a.beside else u)
