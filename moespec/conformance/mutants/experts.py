"""Defects of expert kernels."""

from __future__ import annotations

import numpy as np

from moespec import experts, numerics
from moespec.conformance.mutants._mutant import Mutant


def _bf16(x):
    return x.astype(np.float32).view(np.uint32).astype(np.uint64).__add__(0x8000).__and__(0xFFFF0000).astype(np.uint32).view(np.float32)


def _with_inputs(change):
    """The reference on changed inputs (its backward is then that of the changed forward)."""
    def forward(*inputs, **attrs):
        return experts.grouped_matmul(*change(*inputs), **attrs)
    return forward


def _low_accumulator(rows, w, offsets):
    out, saved = experts.grouped_matmul(rows, w, offsets)
    x, m = numerics.widen(rows), numerics.widen(w)
    total = np.zeros(out.shape, np.float32)
    for e in range(len(m)):
        s = slice(offsets[e], offsets[e + 1])
        for k in range(x.shape[1]):
            total[s] = _bf16(total[s] + x[s, k:k + 1] * m[e, k])
    return total.astype(out.dtype), saved


def _shifted(rows, w, offsets):
    edges = offsets.copy()
    edges[1:-1] = np.minimum(edges[1:-1] + 1, edges[-1])
    return rows, w, np.maximum.accumulate(edges)


def _last_lost(rows, w, offsets):
    w = w.copy()
    w[:, -1:] = 0
    return rows, w, offsets


def _transposed(saved, dout):
    drows, dw = experts.grouped_matmul_backward(saved, dout)
    square = dw.shape[1] == dw.shape[2]
    return drows, np.swapaxes(dw, 1, 2).copy() if square else dw.reshape(dw.shape[0], dw.shape[2], dw.shape[1]).swapaxes(1, 2).copy()


def _stale_expert(saved, dout):
    drows, dw = experts.grouped_matmul_backward(saved, dout)
    idle = ~dw.reshape(len(dw), -1).any(1)
    return drows, np.where(idle[:, None, None], dw.dtype.type(1e-3), dw)


def _dead_tail(rows, w, offsets):
    out, saved = experts.grouped_matmul(rows, w, offsets)
    out = out.copy()
    out[offsets[-1]:] = 1
    return out, saved


def _pointwise(name, slope=None, value=None):
    """A wrong activation: its value or its derivative, as functions of wide x."""
    forward, backward = getattr(experts, name), getattr(experts, f"{name}_backward")

    def wrong_forward(x):
        y, saved = forward(x)
        with np.errstate(all="ignore"):
            return value(numerics.widen(x)).astype(y.dtype), saved

    def wrong_backward(saved, dy):
        dx = backward(saved, dy)
        with np.errstate(all="ignore"):
            return (numerics.widen(dy) * slope(saved.x)).astype(dx.dtype)

    return {"forward": wrong_forward if value else None, "backward": wrong_backward if slope else None}


def _logistic(x):
    return 1 / (1 + np.exp(-x))


def _swapped(rows, offsets, w_gate, w_up, w_down, dropout=None, b_gate=None, b_up=None, b_down=None, **attrs):
    return experts.glu(rows, offsets, w_up, w_gate, w_down, dropout, b_up, b_gate, b_down, **attrs)


def _no_dropout(rows, offsets, w_gate, w_up, w_down, dropout=None, *biases, **attrs):
    return experts.glu(rows, offsets, w_gate, w_up, w_down, None, *biases, **attrs)


def _wrong_activation(*inputs, activation="silu", **attrs):
    shaped = attrs.get("alpha", 1) != 1 or attrs.get("cap_gate")
    other = activation if shaped else {"silu": "gelu", "gelu": "gelu_tanh", "gelu_tanh": "gelu"}.get(activation, activation)
    return experts.glu(*inputs, activation=other, **attrs)


def _no_hidden_bias(rows, offsets, w_in, w_out, b_in=None, b_out=None, dropout=None, **attrs):
    return experts.ffn(rows, offsets, w_in, w_out, None if b_in is None else np.zeros_like(b_in), b_out, dropout, **attrs)


def _bias_of_the_first(rows, offsets, w, b=None):
    return experts.linear(rows, offsets, w, None if b is None else np.broadcast_to(b[:1], b.shape).copy())


def _repeated_once(x, indices, weights, *params, **attrs):
    ids = indices.copy()
    for k in range(1, ids.shape[1]):
        ids[(indices[:, k:k + 1] == indices[:, :k]).any(1), k] = -1
    return experts.moe(x, ids, weights, *params, **attrs)


def _missing_is_zero(x, indices, weights, *params, **attrs):
    return experts.moe(x, np.maximum(indices, 0), weights, *params, **attrs)


def _weight_before(x, indices, weights, *params, **attrs):
    return experts.moe(x, indices, (weights * weights).astype(weights.dtype), *params, **attrs)


def _bias_after_the_choice(x, w_router, w_gate, w_up, w_down, b_router=None, *others, **attrs):
    """The logits that are returned have the router's bias, those that choose do not."""
    out, saved = experts.moe_block(x, w_router, w_gate, w_up, w_down, None, *others, **attrs)
    return out if b_router is None else out._replace(logits=(numerics.widen(out.logits) + numerics.widen(b_router)).astype(out.logits.dtype)), saved


def _router_learns_nothing(saved, dlogits, dgates, dweights, dy):
    """Whatever its cotangents are."""
    grads = list(experts.moe_block_backward(saved, dlogits, dgates, dweights, dy))
    grads[1] = np.zeros_like(grads[1])
    return tuple(grads)


MUTANTS = (
    Mutant("experts.grouped_matmul", "bfloat16 accumulator", _low_accumulator),
    Mutant("experts.grouped_matmul", "group edges one row too late", _with_inputs(_shifted)),
    Mutant("experts.grouped_matmul", "last product lost", _with_inputs(_last_lost)),
    Mutant("experts.grouped_matmul", "rows beyond the offsets not zeroed", _dead_tail),
    Mutant("experts.grouped_matmul", "dw transposed", backward=_transposed),
    Mutant("experts.grouped_matmul", "dw of an idle expert left stale", backward=_stale_expert),
    Mutant("experts.linear", "every expert adds the first bias", _bias_of_the_first),
    Mutant("experts.relu", "derivative 1 at 0", **_pointwise("relu", lambda x: (x >= 0).astype(x.dtype))),
    Mutant("experts.relu2", "derivative relu instead of 2 relu", **_pointwise("relu2", lambda x: np.maximum(x, 0))),
    Mutant("experts.silu", "derivative without its second term", **_pointwise("silu", _logistic)),
    Mutant("experts.silu", "second term of the derivative 1 % off",
           **_pointwise("silu", lambda x: _logistic(x) * (1 + 1.01 * x * (1 - _logistic(x))))),
    Mutant("experts.silu", "hard", **_pointwise("silu", value=lambda x: x * np.clip(x / 6 + 0.5, 0, 1))),
    Mutant("experts.gelu", "tanh form", **_pointwise("gelu", value=lambda x: experts.gelu_tanh(x)[0])),
    Mutant("experts.gelu_tanh", "erf form", **_pointwise("gelu_tanh", value=lambda x: experts.gelu(x)[0])),
    Mutant("experts.gelu", "x sigmoid(1.702 x)", **_pointwise("gelu", value=lambda x: x * _logistic(1.702 * x))),
    Mutant("experts.glu", "gate and up swapped", _swapped),
    Mutant("experts.glu", "dropout left out", _no_dropout),
    Mutant("experts.glu", "another activation", _wrong_activation),
    Mutant("experts.ffn", "hidden bias left out", _no_hidden_bias),
    Mutant("experts.moe", "a repeated id counted once", _repeated_once),
    Mutant("experts.moe", "-1 taken as expert 0", _missing_is_zero),
    Mutant("experts.moe", "weight applied twice", _weight_before),
    Mutant("experts.moe_block", "router's bias left out of the choice", _bias_after_the_choice),
    Mutant("experts.moe_block", "router detached from the output", backward=_router_learns_nothing),
)
