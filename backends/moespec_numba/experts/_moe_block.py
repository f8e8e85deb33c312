"""experts.moe_block: a few tokens in one kernel, more of them by the kernels of its steps."""

from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np

from moespec.backend import resolver
from moespec.op import REMEMBERED, wider
from moespec.program import Impl, Trace, composed
from moespec_numba import _kernel
from moespec_numba._backend import BACKEND
from moespec_numba._few import FEW
from moespec_numba._kernel import OPS, read
from moespec_numba.experts import _few_tokens, _moe
from moespec_numba.experts._gated import gating
from moespec_numba.experts._moe_forward import Rows
from moespec_numba.gates import _linear
from moespec_numba.gates._renormalize import typed
from moespec_numba.gates._route import ORDERS, supports
from moespec_numba.gates._scores import KINDS

PLAIN = attrgetter("flags.carray")           # C-contiguous, aligned, writable: as most are; a view takes time
INT = np.dtype("int64")
OP = OPS["experts.moe_block"]
ADMITTED: dict[Any, Any] = {}               # Few or None, by shapes, dtypes and attributes


class Saved(NamedTuple):
    """A few tokens: what the steps of the block would keep, still to be handed to them."""

    inputs: tuple           # of the block
    attrs: dict
    logits: np.ndarray      # T E
    indices: np.ndarray     # T K
    scores: np.ndarray      # T E, or T K of the chosen ones
    weights: np.ndarray     # T K
    token: np.ndarray       # N
    g: np.ndarray           # N F
    u: np.ndarray           # N F
    place: np.ndarray       # T K
    offsets: np.ndarray     # E+1


class Few(NamedTuple):
    """What a call needs that follows from shapes, dtypes and attributes."""

    T: int
    K: int
    E: int
    D: int
    F: int
    S: int                  # scores that a token keeps: E, or K of the chosen ones
    settings: tuple         # as the kernel takes them
    no_bias: tuple          # what it takes for one that is not there, of 1 and of 2 dimensions


def forward(*inputs, **attrs):
    inputs += (None,) * (10 - len(inputs))
    few = _admit(inputs, attrs)
    if few is None:
        return composed(OP, resolver(BACKEND)).forward(*inputs, **attrs)
    return _run(inputs, attrs, few)


def backward(saved, *cotangents):
    trace = saved if isinstance(saved, Trace) else Trace(OP.line({}, **saved.attrs), {}, _by_step(saved, **saved.attrs))
    pull = composed(OP, resolver(BACKEND)).backward
    assert pull is not None             # composed always has one
    return pull(trace, *cotangents)


def _admit(inputs, attrs):
    """Refuse bad inputs; what the kernel of a few tokens needs, or None where the steps run.

    Nothing is refused for its numbers, save given ids: arrays that are like admitted ones are not looked at again.
    """
    key = None
    try:
        if inputs[-1] is None:
            key = tuple([None if a is None else (a.shape, a.dtype) for a in inputs]), tuple(attrs.items())
            if key in ADMITTED:
                return ADMITTED[key]
    except (AttributeError, TypeError):                     # not arrays, which are refused below; or an attribute that cannot be a key
        key = None
    few = _few(OP.admit(*inputs, **attrs), inputs, **attrs)
    if key is not None and len(ADMITTED) < REMEMBERED:
        ADMITTED[key] = few
    return few


def _few(dims, inputs, *, k=None, score="softmax", over="all", norm="none", eps=0.0, scale=1.0, p=1.0, dtype="float32", **shape):
    """Few if the block runs in one kernel: some choices, not many, and nothing that has to be converted."""
    own, K = inputs[0].dtype, k if inputs[-1] is None else dims.K
    if not 0 < dims.T * K <= FEW or {wider(own, dtype), *[a.dtype for a in inputs[:-1] if a is not None]} != {own}:
        return None
    settings = over == "all", KINDS[score], *typed(norm, eps, scale, own), tuple(gating(own, **shape))
    return Few(dims.T, K, dims.E, dims.D, dims.F, dims.E if over == "all" else K, settings, (np.empty(0, own), np.empty((0, 0), own)))  # plain ones


def _run(inputs, attrs, few):
    x, router, w_gate, w_up, w_down, bias, b_gate, b_up, b_down, indices = inputs
    T, K, E, D, F, S, settings, (no_row, no_rows) = few
    new, own, N = _kernel.allocate, x.dtype, T * K          # arrays of a few rows: where they begin does not matter
    ids = new((T, K), INT) if indices is None else np.array(indices, INT, order="C")
    logits, scores, gates, weights = new((T, E), own), new((T, S), own), new((T, K), own), new((T, K), own)
    token, place, offsets = new(N, INT), new((T, K), INT), new(E + 1, INT)
    g, u, y = new((N, F), own), new((N, F), own), new((T, D), own)
    arrays = (x, router, no_row if bias is None else bias, w_gate, w_up, w_down,
              no_rows if b_gate is None else b_gate, no_rows if b_up is None else b_up, no_rows if b_down is None else b_down)
    made = OP.results(logits, ids, gates, weights, y), Saved(inputs, attrs, logits, ids, scores, weights, token, g, u, place, offsets)
    readable = arrays if all(map(PLAIN, arrays)) else map(read, arrays)
    _few_tokens.run(*readable, indices is not None, *settings, logits, ids, scores, gates, weights, token, place, offsets, g, u, y)
    return made             # put together before: the kernel leaves nothing of Python in the caches


def _by_step(saved, *, k=None, score="softmax", over="all", norm="none", eps=0.0, scale=1.0, p=1.0, dtype="float32", **shape):
    x, router, *w, bias, b_gate, b_up, b_down, _ = saved.inputs
    own, order, live = x.dtype, ORDERS[over], saved.offsets[-1]
    routed = order.Saved(read(saved.logits), KINDS[score], read(saved.scores), read(saved.indices), typed(norm, eps, scale, own))
    rows = Rows(saved.token[:live], saved.g[:live], saved.u[:live])
    experts = _moe.Saved((x, saved.weights, *w, b_gate, b_up, b_down), rows, saved.place, saved.offsets, shape)
    return [_linear.Saved(x, router, None if bias is None else own), (order, routed), own, experts]


IMPL = Impl(forward, backward, supports)
