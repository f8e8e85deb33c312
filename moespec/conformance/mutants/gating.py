"""Defects of gated experts with biases, limits and caps."""

from __future__ import annotations

import numpy as np

from moespec import experts
from moespec.conformance.mutants._mutant import Mutant
from moespec.experts._gating import gate, up
from moespec.numerics import widen


def _with_attrs(change):
    """The reference under changed attributes."""
    def forward(*inputs, **attrs):
        return experts.glu(*inputs, **{**attrs, **change(attrs)})
    return forward


def _with_hidden(factors):
    """The reference with its two factors computed by `factors(g, u, gating)`."""
    def forward(rows, offsets, w_gate, w_up, w_down, dropout=None, b_gate=None, b_up=None, b_down=None, **attrs):
        out, saved = experts.glu(rows, offsets, w_gate, w_up, w_down, dropout, b_gate, b_up, b_down, **attrs)
        s, v = factors(saved.g, saved.u, saved.gating)
        h = s * v if dropout is None else s * v * widen(dropout)
        return experts.linear(h, offsets, widen(w_down), widen(b_down))[0].astype(out.dtype), saved
    return forward


def _other_side(attrs):
    return {"limit_at": {"pre": "post", "post": "pre"}[attrs.get("limit_at", "pre")]}


def _limited_from_below(g, u, a):
    return gate(g if a.limit is None else np.maximum(g, -a.limit), a), up(u, a)


def _up_limited_from_above(g, u, a):
    return gate(g, a), up(u, a) if a.limit is None else np.minimum(u, a.limit) + a.up_offset


def _offset_before_the_limit(g, u, a):
    return gate(g, a), up(u + a.up_offset, a._replace(up_offset=0.0))


def _sigmoid_of_the_capped(g, u, a):
    if a.cap_gate is None:
        return gate(g, a), up(u, a)
    return gate(a.cap_gate * np.tanh(g / a.cap_gate), a._replace(cap_gate=None)), up(u, a)


def _stops_at_equality(saved, dout):
    limit, g, u = saved.gating.limit, saved.g, saved.u
    if limit is None:
        return experts.glu_backward(saved, dout)
    beyond = np.nextafter(g.dtype.type(limit), g.dtype.type(np.inf))
    return experts.glu_backward(saved._replace(g=np.where(g == limit, beyond, g), u=np.where(np.abs(u) == limit, np.copysign(beyond, u), u)),
                                dout)


def _straight_through(saved, dout):
    return experts.glu_backward(saved._replace(gating=saved.gating._replace(limit=None)), dout)


def _biases_swapped(rows, offsets, w_gate, w_up, w_down, dropout=None, b_gate=None, b_up=None, b_down=None, **attrs):
    return experts.glu(rows, offsets, w_gate, w_up, w_down, dropout, b_up, b_gate, b_down, **attrs)


def _bias_on_dead_rows(rows, offsets, w_gate, w_up, w_down, dropout=None, b_gate=None, b_up=None, b_down=None, **attrs):
    out, saved = experts.glu(rows, offsets, w_gate, w_up, w_down, dropout, b_gate, b_up, b_down, **attrs)
    if b_down is not None:
        out = out.copy()
        out[offsets[-1]:] = b_down[-1]
    return out, saved


def _bias_added_once(x, indices, weights, w_gate, w_up, w_down, b_gate=None, b_up=None, b_down=None, **attrs):
    """b_down outside the weighting."""
    y, saved = experts.moe(x, indices, weights, w_gate, w_up, w_down, b_gate, b_up, b_down, **attrs)
    if b_down is None:
        return y, saved
    bare, _ = experts.moe(x, indices, weights, w_gate, w_up, w_down, b_gate, b_up, None, **attrs)
    added = np.where((indices >= 0)[..., None], b_down[indices], 0).sum(1)
    return (bare + added).astype(y.dtype), saved


MUTANTS = (
    Mutant("experts.glu", "limited on the other side of the activation", _with_attrs(_other_side)),
    Mutant("experts.glu", "limit ignored", _with_attrs(lambda attrs: {"limit": None})),
    Mutant("experts.glu", "gate limited from below too", _with_hidden(_limited_from_below)),
    Mutant("experts.glu", "up projection limited from above only", _with_hidden(_up_limited_from_above)),
    Mutant("experts.glu", "offset added before the limit", _with_hidden(_offset_before_the_limit)),
    Mutant("experts.glu", "offset left out", _with_attrs(lambda attrs: {"up_offset": 0.0})),
    Mutant("experts.glu", "alpha left out", _with_attrs(lambda attrs: {"alpha": 1.0})),
    Mutant("experts.glu", "sigmoid of the capped gate", _with_hidden(_sigmoid_of_the_capped)),
    Mutant("experts.glu", "caps left out", _with_attrs(lambda attrs: {"cap_gate": None, "cap_up": None})),
    Mutant("experts.glu", "gradient stops at the limit itself", backward=_stops_at_equality),
    Mutant("experts.glu", "gradient passes beyond the limit", backward=_straight_through),
    Mutant("experts.glu", "biases of gate and up swapped", _biases_swapped),
    Mutant("experts.glu", "dead rows get the bias", _bias_on_dead_rows),
    Mutant("experts.moe", "bias of the down projection not weighted", _bias_added_once),
)
