"""The hidden layer of gated experts, a row at a time: h = c s(g) v(u), and back.

Plain units, s = f and v(u) = u, take a short way; limits, caps, alpha and the offset another one, in which no limit is an
infinite one and no cap is 0.
"""

import math
from typing import NamedTuple

import numpy as np

from moespec_numba._kernel import REORDER, kernel
from moespec_numba.experts._activations import NUMBER, exp, value, value_and_slope


class Gating(NamedTuple):
    """The attributes as a kernel takes them; the numbers in the dtype that it computes in."""

    kind: int
    plain: bool
    post: bool              # the limit holds f(g), not g
    limit: np.floating
    alpha: np.floating
    offset: np.floating
    cap_gate: np.floating
    cap_up: np.floating


def gating(dtype, activation="silu", limit=None, limit_at="pre", alpha=1.0, up_offset=0.0, cap_gate=None, cap_up=None):
    plain = limit is None and alpha == 1 and not up_offset and cap_gate is None and cap_up is None
    numbers = (np.inf if limit is None else limit, alpha, up_offset, cap_gate or 0, cap_up or 0)
    return Gating(NUMBER[activation], plain, limit_at == "post", *map(np.dtype(dtype).type, numbers))


@kernel
def gate(a, g, u, c, z, h):
    """h = c s(g) v(u); `z` is scratch."""
    if a.plain:
        value(a.kind, g, h)
        for j in range(len(g)):
            h[j] = c * (h[j] * u[j])
    else:
        _curve(a, g, z, h, h, False)
        for j in range(len(g)):
            h[j] = c * (h[j] * _up(a, u[j]))


@kernel(fastmath=REORDER)
def ungate(a, g, u, c, z, s, slope, dh, du):
    """From dh, the cotangent of h / c: dh becomes dg, `du` is written; returns <dh, s v>.  `z`, `s` and `slope` are scratch."""
    inner = g.dtype.type(0)
    if a.plain:
        value_and_slope(a.kind, g, s, slope)
        for j in range(len(g)):
            d = dh[j]
            inner += d * (s[j] * u[j])
            d *= c
            du[j] = d * s[j]
            dh[j] = d * u[j] * slope[j]
    else:
        _curve(a, g, z, s, slope, True)
        for j in range(len(g)):
            d, v = dh[j], _up(a, u[j])
            inner += d * (s[j] * v)
            d *= c
            du[j] = _through_up(a, u[j], d * s[j])
            dh[j] = 0 if _held(a, g[j], z[j]) else d * v * slope[j]
    return inner


@kernel
def _curve(a, g, z, s, slope, sloped):
    """s(g), and f' at the limited g where `sloped`; z: what the limit is compared with (the limited g, or f(g))."""
    for j in range(len(g)):
        z[j] = a.limit if not a.post and g[j] > a.limit else g[j]
    if a.alpha == 1 and a.cap_gate == 0:
        if sloped:
            value_and_slope(a.kind, z, s, slope)
        else:
            value(a.kind, z, s)
    else:
        one = g.dtype.type(1)
        for j in range(len(z)):
            p, capped, through = one / (one + exp(-a.alpha * z[j])), z[j], one
            if a.cap_gate != 0:
                t = math.tanh(z[j] / a.cap_gate)
                capped, through = a.cap_gate * t, one - t * t
            s[j] = capped * p
            if sloped:
                slope[j] = p * (through + a.alpha * capped * (one - p))
    if a.post:
        for j in range(len(s)):
            z[j] = s[j]
            s[j] = a.limit if s[j] > a.limit else s[j]


@kernel(inline="always")
def _held(a, g, z):
    """Whether the limit stops the gradient of the gate."""
    return (z if a.post else g) > a.limit


@kernel(inline="always")
def _up(a, u):
    v = _limited(a, u)
    return (v if a.cap_up == 0 else a.cap_up * math.tanh(v / a.cap_up)) + a.offset


@kernel(inline="always")
def _through_up(a, u, dv):
    t = math.tanh(_limited(a, u) / a.cap_up) if a.cap_up != 0 else dv * 0
    return dv * 0 if abs(u) > a.limit else dv * (type(u)(1) - t * t)


@kernel(inline="always")
def _limited(a, u):
    return a.limit if u > a.limit else (-a.limit if u < -a.limit else u)
