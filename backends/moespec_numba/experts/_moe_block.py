"""experts.moe_block: a few tokens in one kernel, more of them by the kernels of its steps."""

from typing import NamedTuple

from numba import get_num_threads

from moespec.backend import resolver
from moespec.op import wider
from moespec.program import Impl, Trace, composed, pack
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


class Saved(NamedTuple):
    attrs: dict
    kept: tuple             # what each of the steps keeps for its backward


def forward(*inputs, **attrs):
    inputs += (None,) * (10 - len(inputs))
    dims = OPS["experts.moe_block"].admit(*inputs, **attrs)
    choices = dims.T * (attrs["k"] if inputs[-1] is None else dims.K)
    if 0 < choices <= FEW and _one_dtype(inputs[:-1], attrs.get("dtype", "float32")):
        return _few(inputs, dims, attrs, **attrs)
    return composed(OPS["experts.moe_block"], resolver(BACKEND)).forward(*inputs, **attrs)


def backward(saved, *cotangents):
    op = OPS["experts.moe_block"]
    trace = saved if isinstance(saved, Trace) else Trace(op.line({}, **saved.attrs), {}, list(saved.kept))
    return composed(op, resolver(BACKEND)).backward(trace, *cotangents)


def _one_dtype(arrays, router):
    """Whether nothing has to be converted."""
    own = arrays[0].dtype
    return wider(own, router) == own and all(a is None or a.dtype == own for a in arrays)


def _few(inputs, dims, attrs, *, k=None, score="softmax", over="all", norm="none", eps=0.0, scale=1.0, dtype="float32", **shape):
    """The outputs, and what the steps would keep."""
    x, router, *w, bias, b_gate, b_up, b_down, indices = inputs
    own, T, E = x.dtype, dims.T, dims.E
    ids, given = selection(indices, T, k)
    logits, weights, y = empty((T, E), own), empty(ids.shape, own), empty((T, dims.D), own)
    scores = empty((T, E) if over == "all" else ids.shape, own)
    token, place, offsets = empty(ids.size, "int64"), empty(ids.shape, "int64"), empty(E + 1, "int64")
    g, u = empty((ids.size, dims.F), own), empty((ids.size, dims.F), own)
    kind, how = KINDS[score], typed(norm, eps, scale, own)
    experts = Weights(*(absent(2, own) if a is None else read(a) for a in (*w, b_gate, b_up, b_down)))
    _few_tokens.run(get_num_threads(), read(x), read(router), absent(1, own) if bias is None else read(bias), experts, over == "all", kind,
                    given, *how, gating(own, **shape), logits, ids, scores, weights, token, place, offsets, g, u, y)
    live, order = offsets[-1], ORDERS[over]
    kept = (_linear.Saved(x, router, None if bias is None else own), (order, order.Saved(read(logits), kind, read(scores), read(ids), how)), own,
            _moe.Saved((x, weights, *w, b_gate, b_up, b_down), Rows(token[:live], g[:live], u[:live]), place, offsets, shape))
    return pack(OPS["experts.moe_block"], (logits, ids, weights, y)), Saved(attrs, kept)


IMPL = Impl(forward, backward, supports)
