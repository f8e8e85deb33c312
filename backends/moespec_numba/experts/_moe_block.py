"""experts.moe_block: a few tokens in one kernel, more of them by the kernels of its steps."""

from typing import NamedTuple

import numpy as np

from moespec.backend import resolver
from moespec.op import remembered, wider
from moespec.program import Impl, Trace, composed
from moespec_numba._backend import BACKEND
from moespec_numba._few import FEW
from moespec_numba._kernel import OPS, empty, read
from moespec_numba.experts import _few_tokens, _moe
from moespec_numba.experts._gated import gating
from moespec_numba.experts._moe_forward import Rows, Weights
from moespec_numba.experts._types import absent
from moespec_numba.gates import _linear
from moespec_numba.gates._order import selection
from moespec_numba.gates._renormalize import typed
from moespec_numba.gates._route import ORDERS, supports
from moespec_numba.gates._scores import KINDS

OP = OPS["experts.moe_block"]


class Saved(NamedTuple):
    """A few tokens: what the steps of the block would keep, still to be handed to them."""

    inputs: tuple           # of the block
    attrs: dict
    logits: np.ndarray      # T E
    indices: np.ndarray     # T K
    scores: np.ndarray      # T E, or T K of the chosen ones
    weights: np.ndarray     # T K
    rows: Rows
    place: np.ndarray       # T K
    offsets: np.ndarray     # E+1


def forward(*inputs, **attrs):
    inputs += (None,) * (10 - len(inputs))
    dims = OP.admit(*inputs, **attrs)
    choices = dims.T * (attrs["k"] if inputs[-1] is None else dims.K)
    if 0 < choices <= FEW and _one_dtype(inputs[:-1], attrs.get("dtype", "float32")):
        return _few(inputs, attrs, dims)
    return composed(OP, resolver(BACKEND)).forward(*inputs, **attrs)


def backward(saved, *cotangents):
    trace = saved if isinstance(saved, Trace) else Trace(OP.line({}, **saved.attrs), {}, _by_step(saved, **saved.attrs))
    pull = composed(OP, resolver(BACKEND)).backward
    assert pull is not None             # composed always has one
    return pull(trace, *cotangents)


def _one_dtype(arrays, router):
    """Whether nothing has to be converted."""
    own = arrays[0].dtype
    return {wider(own, router), *[a.dtype for a in arrays if a is not None]} == {own}


@remembered
def _settings(own, *, k=None, score="softmax", over="all", norm="none", eps=0.0, scale=1.0, dtype="float32", **shape):
    """The attributes as the kernel takes them, in the arrays' dtype `own`."""
    return over == "all", KINDS[score], *typed(norm, eps, scale, own), gating(own, **shape)


def _few(inputs, attrs, dims):
    x, router, w_gate, w_up, w_down, bias, b_gate, b_up, b_down, indices = inputs
    own, T, E = x.dtype, dims.T, dims.E
    settings = _settings(own, **attrs)
    ids, given = selection(indices, T, attrs.get("k"))
    n = ids.size
    logits, scores, gates = empty((T, E), own), empty((T, E) if settings[0] else ids.shape, own), empty(ids.shape, own)
    token, place, offsets = empty(n, "int64"), empty(ids.shape, "int64"), empty(E + 1, "int64")
    g, u, y = empty((n, dims.F), own), empty((n, dims.F), own), empty((T, dims.D), own)
    b_router = absent(1, own) if bias is None else read(bias)
    w = Weights(*(absent(2, own) if a is None else read(a) for a in (w_gate, w_up, w_down, b_gate, b_up, b_down)))
    _few_tokens.run(read(x), read(router), b_router, w, given, *settings, logits, ids, scores, gates, token, place,
                    offsets, g, u, y)
    weights = gates.copy()
    return OP.results(logits, ids, gates, weights, y), Saved(inputs, attrs, logits, ids, scores, weights, Rows(token, g, u), place, offsets)


def _by_step(saved, *, k=None, score="softmax", over="all", norm="none", eps=0.0, scale=1.0, dtype="float32", **shape):
    x, router, *w, bias, b_gate, b_up, b_down, _ = saved.inputs
    own, order, live = x.dtype, ORDERS[over], saved.offsets[-1]
    routed = order.Saved(read(saved.logits), KINDS[score], read(saved.scores), read(saved.indices), typed(norm, eps, scale, own))
    experts = _moe.Saved((x, saved.weights, *w, b_gate, b_up, b_down), Rows(*(a[:live] for a in saved.rows)), saved.place, saved.offsets, shape)
    return [_linear.Saved(x, router, None if bias is None else own), (order, routed), own, experts]


IMPL = Impl(forward, backward, supports)
