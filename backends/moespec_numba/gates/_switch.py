"""gates.switch: a product by BLAS, then the kernel of softmax_topk with k = 1."""

from typing import NamedTuple

import numpy as np

from moespec.op import wider
from moespec.program import Impl
from moespec_numba._kernel import OPS, zeros
from moespec_numba.gates import _softmax_topk
from moespec_numba.gates._jitter import times


class Saved(NamedTuple):
    x: np.ndarray           # T D   after the jitter
    w: np.ndarray           # D E
    jitter: np.ndarray | None
    routing: tuple          # of softmax_topk
    dtype: np.dtype         # of x


def forward(x, w, jitter=None, indices=None, *, dtype="float32"):
    OPS["gates.switch"].admit(x, w, jitter, indices, dtype=dtype)
    shaken = x if jitter is None else times(x, jitter, np.result_type(x, jitter))
    logits = shaken @ w
    (ids, weights), routing = _softmax_topk.routed(logits, indices, 1)
    out = wider(x.dtype, dtype)
    return (logits.astype(out, copy=False), ids, weights.astype(out, copy=False)), Saved(shaken, w, jitter, routing, x.dtype)


def backward(saved, dlogits, dweights):
    probs = saved.routing.probs
    d = zeros(probs.shape, probs.dtype) if dweights is None else _softmax_topk.backward(saved.routing, dweights)
    if dlogits is not None:
        d += dlogits
    dx = d @ saved.w.T
    dx = dx.astype(saved.dtype, copy=False) if saved.jitter is None else times(dx, saved.jitter, saved.dtype)
    return dx, (saved.x.T @ d).astype(saved.w.dtype, copy=False)


IMPL = Impl(forward, backward)
