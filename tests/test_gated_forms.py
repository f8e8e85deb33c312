"""Right kernels of gated experts and of the ops by id, written as others write them: the bound must admit every one."""

from itertools import pairwise

import numpy as np
import pytest
from test_correct_forms import failures, wide

from moespec.conformance.mutants import Mutant, Mutated
from moespec.registry import OPS


def logistic(x):
    return x.dtype.type(0.5) * (1 + np.tanh(x / 2))


def curve(g, activation, alpha, cap):
    """(f, f') of the activations that one kernel knows, the cap by a sigmoid instead of a tanh."""
    from scipy import special
    if activation == "silu":
        s = logistic(g.dtype.type(alpha) * g)
        c = g if cap is None else 2 * cap * logistic(g * g.dtype.type(2 / cap)) - g.dtype.type(cap)
        slope = 1 if cap is None else 1 - (c * g.dtype.type(1 / cap)) ** 2
        return c * s, s * slope + g.dtype.type(alpha) * c * (s - s * s)
    if activation == "gelu":
        return g * special.ndtr(g), special.ndtr(g) + g * np.exp(-g * g / 2) * g.dtype.type((2 * np.pi) ** -0.5)
    k = g.dtype.type((2 / np.pi) ** 0.5)
    t = np.tanh(k * (g + g.dtype.type(0.044715) * g**3))
    tanh_form = (g * (1 + t) / 2, (1 + t) / 2 + g * (1 - t * t) * k * (1 + 3 * g.dtype.type(0.044715) * g * g) / 2)
    r = np.maximum(g, 0)
    return {"relu": (r, g > 0), "relu2": (r * r, r + r), "identity": (g, np.ones_like(g)), "gelu_tanh": tanh_form}[activation]


def bent(u, limit, offset, cap):
    inside = u if limit is None else np.minimum(np.maximum(u, u.dtype.type(-limit)), u.dtype.type(limit))
    v = inside if cap is None else 2 * cap * logistic(inside * u.dtype.type(2 / cap)) - u.dtype.type(cap)
    slope = (1 if cap is None else 1 - (v * u.dtype.type(1 / cap)) ** 2) * (1 if limit is None else (np.abs(u) <= limit))
    return v + u.dtype.type(offset), slope


def factors(g, u, activation="silu", limit=None, limit_at="pre", alpha=1.0, up_offset=0.0, cap_gate=None, cap_up=None):
    """s, s', v, v': limits by masks, everything else by other functions than the reference's."""
    v, dv = bent(u, limit, up_offset, cap_up)
    if limit is not None and limit_at == "pre":
        s, ds = curve(np.where(g > limit, g.dtype.type(limit), g), activation, alpha, cap_gate)
        return s, ds * ~(g > limit), v, dv
    s, ds = curve(g, activation, alpha, cap_gate)
    if limit is None:
        return s, ds, v, dv
    return np.where(s > limit, g.dtype.type(limit), s), ds * ~(s > limit), v, dv


def glu(rows, offsets, w_gate, w_up, w_down, dropout=None, b_gate=None, b_up=None, b_down=None, **attrs):
    """Expert by expert, the biases as a further row of the matrices, the contractions reversed."""
    x, wg, wu, wd, mask, bg, bu, bd = wide(rows, w_gate, w_up, w_down, dropout, b_gate, b_up, b_down)
    out, kept = np.zeros(x.shape, x.dtype), []
    for e, (a, b) in enumerate(pairwise(offsets)):
        one = np.concatenate([np.ones((b - a, 1), x.dtype), x[a:b]], 1)[:, ::-1]
        g, u = (one @ np.concatenate([np.zeros_like(w[e][:1]) if c is None else c[e][None], w[e]])[::-1] for w, c in ((wg, bg), (wu, bu)))
        s, ds, v, dv = factors(g, u, **attrs)
        m = 1 if mask is None else mask[a:b]
        out[a:b] = (v * s * m)[:, ::-1] @ wd[e][::-1] + (0 if bd is None else bd[e])
        kept.append((a, b, s, ds, v, dv, m))
    return out.astype(rows.dtype), (kept, x, wg, wu, wd, (rows, w_gate, w_up, w_down, b_gate, b_up, b_down))


def glu_backward(saved, dout):
    kept, x, wg, wu, wd, inputs = saved
    (dy,) = wide(dout)
    grads = [None if i is None else np.zeros(i.shape, x.dtype) for i in inputs]
    for e, (a, b, s, ds, v, dv, m) in enumerate(kept):
        dh = dy[a:b] @ wd[e].T * m
        dg, du = ds * (dh * v), dv * (dh * s)
        grads[0][a:b] = np.concatenate([dg, du], 1) @ np.concatenate([wg[e].T, wu[e].T])
        for n, d in ((1, x[a:b].T @ dg), (2, x[a:b].T @ du), (3, (s * v * m).T @ dy[a:b]), (4, dg.sum(0)), (5, du.sum(0)), (6, dy[a:b].sum(0))):
            if grads[n] is not None:
                grads[n][e] = d
    return tuple(None if d is None else d.astype(i.dtype) for d, i in zip(grads, inputs, strict=True))


def add(a, b, *, scale=1.0):
    x, y = wide(a, b)
    return (x * x.dtype.type(scale) + y * x.dtype.type(scale)).astype(a.dtype), (scale, a.dtype, b.dtype)


def add_backward(saved, dy):
    (d,) = wide(dy)
    return tuple((d.dtype.type(saved[0]) * d).astype(t) for t in saved[1:])


def copy(x, indices, weights, *, first, last=None):
    """Choice by choice, the last one first."""
    xs, ws = wide(x, weights)
    chosen = np.isin(indices, np.arange(first, 1 + indices.max(initial=0) if last is None else last))
    y = np.zeros(xs.shape, xs.dtype)
    for j in reversed(range(indices.shape[1])):
        y += np.where(chosen[:, j:j + 1], ws[:, j:j + 1] * xs, 0)
    return y.astype(x.dtype), (xs, ws, chosen, x.dtype, weights.dtype)


def copy_backward(saved, dy):
    xs, ws, chosen, *dtypes = saved
    (d,) = wide(dy)
    dx = sum((np.where(chosen[:, j:j + 1], ws[:, j:j + 1] * d, 0) for j in range(ws.shape[1])), np.zeros(d.shape, d.dtype))
    dw = np.where(chosen, np.stack([np.float32(0) + (xs[t] @ d[t]) for t in range(len(d))])[:, None] if len(d) else 0, 0)
    return dx.astype(dtypes[0]), dw.astype(dtypes[1])


def singleton(x, indices, weights, w_in, w_out, *, activation="gelu"):
    """Token by token, by matrix-vector products."""
    xs, ws, wi, wo = wide(x, weights, w_in, w_out)
    y, kept = np.zeros(xs.shape, xs.dtype), []
    for t in range(len(xs)):
        own = indices[t] >= 0
        ids = indices[t][own]
        h, slope = curve(wi[ids] @ xs[t], activation, 1.0, None)
        y[t] = wo[ids].T @ (h * ws[t][own])
        kept.append((own, ids, h, slope))
    return y.astype(x.dtype), (kept, xs, ws, wi, wo, (x, weights, w_in, w_out))


def singleton_backward(saved, dy):
    kept, xs, ws, wi, wo, inputs = saved
    (d,) = wide(dy)
    dx, dw, di, do = (np.zeros(a.shape, xs.dtype) for a in inputs)
    for t, (own, ids, h, slope) in enumerate(kept):
        dc = wo[ids] @ d[t]
        dw[t][own] = dc * h
        dg = slope * (dc * ws[t][own])
        dx[t] = wi[ids].T @ dg
        np.add.at(di, ids, dg[:, None] * xs[t])
        np.add.at(do, ids, (ws[t][own] * h)[:, None] * d[t])
    return tuple(g.astype(a.dtype) for g, a in zip((dx, dw, di, do), inputs, strict=True))


FORMS = {"experts.glu": (glu, glu_backward), "dispatch.add": (add, add_backward), "experts.copy": (copy, copy_backward),
         "experts.singleton": (singleton, singleton_backward)}


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", FORMS)
def test_another_correct_form_is_admitted(name, dtype):
    assert not failures(Mutated(Mutant(name, "another form", *FORMS[name])), OPS[name], dtype)
