"""Experts of two layers, gated ones and plain ones: the first half in one pass, and back."""

from math import inf
from typing import Any, NamedTuple

from moespec_cupy._kernel import Kernels, empty, items
from moespec_cupy.dispatch._combine import combine_rows
from moespec_cupy.experts._pointwise import NUMBER
from moespec_cupy.experts._products import nn, nt, sums, tiles, tn

KERNELS = Kernels(__file__, "_hidden.cu")


class Parameters(NamedTuple):
    """What the experts consist of; a plain one has no up projection."""

    w_gate: Any             # E D F
    w_up: Any               # E D F
    w_down: Any             # E F D
    dropout: Any = None     # N F
    b_gate: Any = None      # E F
    b_up: Any = None        # E F
    b_down: Any = None      # E D


class Hidden(NamedTuple):
    """Pre-activations, kept for backward in the dtype of the rows."""

    g: Any                  # N F
    u: Any                  # N F


def gating(activation="silu", limit=None, limit_at="pre", alpha=1.0, up_offset=0.0, cap_gate=None, cap_up=None):
    """The attributes as the kernels take them: no limit is an infinite one, no cap is 0."""
    bound = inf if limit is None else limit
    limits = (bound if limit_at == "pre" else inf, bound if limit_at == "post" else inf, bound)
    return NUMBER[activation], int(alpha != 1 or cap_gate is not None), *limits, alpha, up_offset, cap_gate or 0.0, cap_up or 0.0


def experts_forward(x, p, own, shape, index=None):
    """(out [N, D], what backward needs); with an index row n of x is x[index[n]]."""
    (experts, depth, width), rows = p.w_gate.shape, len(x if index is None else index)
    if own.bounds is not None:
        g, u, h = _hidden_loop(x if index is None else combine_rows(x, None, index[:, None]), p, own, shape)
        return nn(h, p.w_down, own, p.b_down), Hidden(g, u)
    g, h = empty((rows, width), x.dtype), empty((rows, width), x.dtype)
    u = None if p.w_up is None else empty((rows, width), x.dtype)
    KERNELS("grouped_hidden", tiles(rows, width, experts, x.dtype), x, index, p.w_gate, p.w_up, p.b_gate, p.b_up, p.dropout, own.offsets,
            g, u, h, rows, len(x), depth, width, experts, *shape)
    return nn(h, p.w_down, own, p.b_down), Hidden(g, u)


def _hidden_loop(x, p, own, shape):
    g, u = nn(x, p.w_gate, own, p.b_gate), None if p.w_up is None else nn(x, p.w_up, own, p.b_up)
    h = empty(g.shape, g.dtype)
    KERNELS("hidden", items(g.size), g, u, p.dropout, h, g.size, *shape)
    return g, u, h


def experts_backward(x, p, own, shape, hidden, dy, index=None):
    """(drows [N, D], the gradients of the parameters in their order)."""
    (experts, width, depth), rows = p.w_down.shape, len(dy)
    dg, h = empty((rows, width), dy.dtype), empty((rows, width), dy.dtype)
    du = None if p.w_up is None else empty((rows, width), dy.dtype)
    if own.bounds is None:
        KERNELS("grouped_hidden_backward", tiles(rows, width, experts, dy.dtype), dy, p.w_down, *hidden, p.dropout, own.offsets, dg, du, h,
                rows, depth, width, experts, *shape)
    else:
        KERNELS("hidden_backward", items(h.size), nt(dy, p.w_down, own), *hidden, p.dropout, dg, du, h, h.size, *shape)
        x, index = x if index is None else combine_rows(x, None, index[:, None]), None
    dw_up = None if du is None else tn(x, du, own, index)
    grads = Parameters(tn(x, dg, own, index), dw_up, tn(h, dy, own), None,
                       sums(dg, own, p.b_gate), sums(du, own, p.b_up), sums(dy, own, p.b_down))
    return nt(dg, p.w_gate, own, du, p.w_up), grads
