"""The chances of experts that their noise is drawn again, which the load losses share: R rows, each the gate of E experts."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from moespec_numba_cuda._arrays import common, convert, empty, like, read
from moespec_numba_cuda._device import cuda, device
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda._math import erfc, exp
from moespec_numba_cuda._rows import legal
from moespec_numba_cuda.gates._order import choose


class Chances(NamedTuple):
    """What the gradient of sums of chances needs."""

    inputs: tuple           # clean, sigma, noisy, in whatever shape
    sigma: Any              # R E
    z: Any                  # R E   inf for k = E
    order: Any              # R min(k+1, E)
    member: Any             # R     how often a row counts; empty: once
    k: int


def chances(clean, sigma, noisy, order, k, shape, member=None):
    """(chances [R, E], Chances) with `shape` rows and experts; the order is taken if it is not given."""
    c, s, h = (a.reshape(shape) for a in common(clean, sigma, noisy))
    (rows, experts), m = shape, empty(0, s.dtype) if member is None else convert(member, s.dtype)
    if order is None:
        order, best = empty((rows, min(k + 1, experts)), "int64"), empty((rows, min(k + 1, experts)), s.dtype)
        _best_first(items(rows), h, order, best)
    order = read(order, "int64").reshape(rows, min(k + 1, experts))
    z, p = empty(shape, s.dtype), empty(shape, s.dtype)
    _chances(items(rows * experts), c, s, h, order, k, m, z, p)
    return p, Chances((clean, sigma, noisy), s, z, order, m, k)


def chances_backward(saved, dsums):
    """Gradients of clean, sigma and noisy; dsums [G, E] belongs to the rows r % G."""
    z, d = saved.z, convert(dsums, saved.z.dtype)
    dclean, dsigma, dnoisy = empty(z.shape, z.dtype), empty(z.shape, z.dtype), empty(z.shape, z.dtype)
    _chances_backward(items(len(z)), saved.sigma, z, saved.order, saved.k, saved.member, d, dclean, dsigma, dnoisy)
    grads = zip(saved.inputs, (dclean, dsigma, dnoisy), strict=True)
    return tuple(like(a, g.reshape(a.shape)) for a, g in grads)


@device
def _inside(order, k, e):
    """Whether an expert is in the top k."""
    found = False
    for j in range(k):
        found = found or order[j] == e
    return found


@kernel("T2 i2 T2")
def _best_first(noisy, order, best):
    for r in range(cuda.grid(1), noisy.shape[0], cuda.gridsize(1)):
        choose(noisy[r], order[r], best[r])


@kernel("T2 T2 T2 i2 i T1 T2 T2")
def _chances(clean, sigma, noisy, order, k, member, z, p):
    """The threshold is the k-th of the others: the (k+1)-th of all for an expert in the top k.  Nobody's logit is 0."""
    experts, half, root = noisy.shape[1], noisy.dtype.type(0.5), noisy.dtype.type(-(0.5**0.5))
    for i in range(cuda.grid(1), noisy.shape[0] * experts, cuda.gridsize(1)):
        r, e = i // experts, i % experts
        if k >= experts:
            z[r, e], chance = np.inf, noisy.dtype.type(1)
        else:
            at = legal(order[r, k] if _inside(order[r], k, e) else order[r, k - 1], experts)
            limit = noisy[r, at] if at >= 0 else noisy.dtype.type(0)
            z[r, e] = (clean[r, e] - limit) / sigma[r, e]
            chance = half * erfc(root * z[r, e])
        p[r, e] = member[r] * chance if len(member) else chance


@kernel("T2 T2 i2 i T1 T2 T2 T2 T2")
def _chances_backward(sigma, z, order, k, member, dsums, dclean, dsigma, dnoisy):
    experts, peak, half = z.shape[1], z.dtype.type(0.3989422804014327), z.dtype.type(-0.5)
    for r in range(cuda.grid(1), z.shape[0], cuda.gridsize(1)):
        to_kth, to_next, times = z.dtype.type(0), z.dtype.type(0), member[r] if len(member) else z.dtype.type(1)
        for e in range(experts):
            dclean[r, e], dsigma[r, e], dnoisy[r, e] = 0, 0, 0
            if k < experts:
                d = exp(half * z[r, e] * z[r, e]) * peak * (times * dsums[r % dsums.shape[0], e]) / sigma[r, e]
                dclean[r, e], dsigma[r, e] = d, -z[r, e] * d
                if _inside(order[r], k, e):
                    to_next += d
                else:
                    to_kth += d
        if k < experts:
            kth, after = legal(order[r, k - 1], experts), legal(order[r, k], experts)
            if kth >= 0:
                dnoisy[r, kth] -= to_kth
            if after >= 0:
                dnoisy[r, after] -= to_next
