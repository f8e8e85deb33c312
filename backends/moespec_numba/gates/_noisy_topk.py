"""gates.noisy_topk: matrix products by BLAS, between the kernels of its two halves."""

from typing import NamedTuple

import numpy as np

from moespec.op import wider
from moespec.program import Impl
from moespec_numba._kernel import OPS, zeros
from moespec_numba.gates import _topk_softmax
from moespec_numba.gates._noisy_logits import noisy, through_noise


class Saved(NamedTuple):
    inputs: tuple           # x, w_gate, w_noise, noise
    raw: np.ndarray         # T E
    routing: tuple          # of topk_softmax


def forward(x, w_gate, w_noise, noise, indices=None, *, k=None, floor=0.01, dtype="float32"):
    OPS["gates.noisy_topk"].admit(x, w_gate, w_noise, noise, indices, k=k, floor=floor, dtype=dtype)
    clean, raw = x @ w_gate, x @ w_noise
    logits, sigma = noisy(clean, raw, noise, floor)
    (ids, weights), routing = _topk_softmax.routed(logits, indices, k)
    out = wider(x.dtype, dtype)
    clean, sigma, logits, weights = (a.astype(out, copy=False) for a in (clean, sigma, logits, weights))
    return (clean, sigma, logits, ids, weights), Saved((x, w_gate, w_noise, noise), raw, routing)


def backward(saved, dclean, dsigma, dlogits, dweights):
    x, w_gate, w_noise, noise = saved.inputs
    dtype = saved.routing.shares.dtype
    dh = zeros(saved.raw.shape, dtype) if dweights is None else _topk_softmax.backward(saved.routing, dweights.astype(dtype, copy=False))
    if dlogits is not None:
        dh += dlogits
    dc = dh if dclean is None else dh + dclean
    dr = through_noise(saved.raw, noise, dh, dsigma)
    grads = dc @ w_gate.T + dr @ w_noise.T, x.T @ dc, x.T @ dr
    return tuple(g.astype(a.dtype, copy=False) for g, a in zip(grads, saved.inputs, strict=False))


IMPL = Impl(forward, backward)
