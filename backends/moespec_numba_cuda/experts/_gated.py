"""The hidden layer of gated experts, a number at a time: h = m s(g) v(u), and back; no limit is an infinite one, no cap 0."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from moespec_numba_cuda._arrays import empty
from moespec_numba_cuda._device import cuda, device
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda._math import tanh
from moespec_numba_cuda.experts._activations import NUMBER, sigmoid, slope, value


class Gating(NamedTuple):
    """The attributes as kernels take them, number by number."""

    kind: int
    general: bool           # cap(z) sigmoid(alpha z) in place of f
    before: Any             # limit of the gate, before the activation
    after: Any              # limit of the activation
    beside: Any             # limit of the up projection
    alpha: float
    offset: float
    cap_gate: float
    cap_up: float


def gating(activation="silu", limit=None, limit_at="pre", alpha=1.0, up_offset=0.0, cap_gate=None, cap_up=None):
    none = limit is None
    limits = (np.inf if none or limit_at != "pre" else limit, np.inf if none or limit_at != "post" else limit, np.inf if none else limit)
    return Gating(NUMBER[activation], alpha != 1 or cap_gate is not None, *limits, alpha, up_offset, cap_gate or 0.0, cap_up or 0.0)


def hidden(a, g, u, mask):
    """h [N, F]."""
    h = empty(g.shape, g.dtype)
    _hidden(items(g.size), *a, g, u, factors(mask, g), h)
    return h


def through_hidden(a, g, u, mask, dh):
    """(dg, du); `dh` becomes dg."""
    du = empty(u.shape, u.dtype)
    _through(items(g.size), *a, g, u, factors(mask, g), dh, du)
    return dh, du


def factors(mask, g):
    """Kernels take no None: no factors are those of no row."""
    return empty((0, g.shape[1]), g.dtype) if mask is None else mask


@device
def _gate(kind, general, z, alpha, cap):
    """s, and its slope, of a gate that was limited."""
    if not general:
        return value(kind, z), slope(kind, z)
    t, through, p = z, z * 0 + 1, sigmoid(alpha * z)
    if cap != 0:
        q = tanh(z / cap)
        t, through = cap * q, 1 - q * q
    return t * p, p * (through + alpha * t * (1 - p))


@device
def _up(u, beside, offset, cap):
    """v, and its slope."""
    v = beside if u > beside else (-beside if u < -beside else u)
    through = u * 0 if abs(u) > beside else u * 0 + 1
    if cap != 0:
        q = tanh(v / cap)
        v, through = cap * q, through * (1 - q * q)
    return v + offset, through


@kernel("i i T T T T T T T T2 T2 T2 T2")
def _hidden(kind, general, before, after, beside, alpha, offset, cap_gate, cap_up, g, u, mask, h):
    width = g.shape[1]
    for i in range(cuda.grid(1), g.shape[0] * width, cuda.gridsize(1)):
        n, j = i // width, i % width
        z = before if g[n, j] > before else g[n, j]
        s, _ = _gate(kind, general, z, alpha, cap_gate)
        v, _ = _up(u[n, j], beside, offset, cap_up)
        y = (after if s > after else s) * v
        h[n, j] = y * mask[n, j] if mask.shape[0] else y


@kernel("i i T T T T T T T T2 T2 T2 T2 T2")
def _through(kind, general, before, after, beside, alpha, offset, cap_gate, cap_up, g, u, mask, dh, du):
    width = g.shape[1]
    for i in range(cuda.grid(1), g.shape[0] * width, cuda.gridsize(1)):
        n, j = i // width, i % width
        z = before if g[n, j] > before else g[n, j]
        s, s_slope = _gate(kind, general, z, alpha, cap_gate)
        v, v_slope = _up(u[n, j], beside, offset, cap_up)
        d = dh[n, j] * mask[n, j] if mask.shape[0] else dh[n, j]
        held = s > after or g[n, j] > before
        dv = d * (after if s > after else s)
        du[n, j] = 0 if abs(u[n, j]) > beside else dv * v_slope
        dh[n, j] = 0 if held else d * v * s_slope
