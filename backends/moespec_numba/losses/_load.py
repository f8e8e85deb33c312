"""losses.load, and the chances that the other load losses share."""

from math import erfc
from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._exp import exp_down
from moespec_numba._kernel import OPS, empty, kernel, read, zeros
from moespec_numba.gates._order import choose, selection


class Chances(NamedTuple):
    """What the gradient of a sum of chances needs; R rows, each the gate of M experts."""

    sigma: np.ndarray       # R M
    z: np.ndarray           # R M   inf for k = M
    order: np.ndarray       # R min(k+1, M)
    weight: np.ndarray      # R     of a row in the sums
    k: int
    dtypes: tuple           # of clean, sigma, noisy


def forward(clean, sigma, noisy, order=None, *, k):
    dims = OPS["losses.load"].admit(clean, sigma, noisy, order, k=k)
    sums, saved = chances(clean, sigma, noisy, order, k, np.ones(dims.T), 1)
    return (sums[0].astype(clean.dtype), saved.order), saved


def backward(saved, dload):
    return chances_backward(saved, dload[None])


def chances(clean, sigma, noisy, order, k, weight, sums):
    """(float64[sums, M], Chances): row r adds weight[r] P[r] to sum r % sums."""
    wide, (rows, experts) = np.result_type(clean, sigma, noisy), noisy.shape
    order, given = selection(order, rows, min(k + 1, experts))
    total, z, s, w = zeros((sums, experts), "float64"), empty(noisy.shape, wide), read(sigma, wide), read(weight, wide)
    _chances(read(clean, wide), s, read(noisy, wide), order, given, k, w, empty(order.shape[1], wide), empty(experts, bool), z, total)
    return total, Chances(s, read(z), order, w, k, (clean.dtype, sigma.dtype, noisy.dtype))


def chances_backward(saved, dsums):
    """Gradients of clean, sigma and noisy, from those of the sums."""
    shape, wide = saved.z.shape, saved.z.dtype
    if saved.k >= shape[1]:
        return tuple(zeros(shape, dtype) for dtype in saved.dtypes)
    grads = empty(shape, wide), empty(shape, wide), empty(shape, wide)
    _chances_backward(saved.sigma, saved.z, read(saved.order), saved.k, saved.weight, read(dsums, wide), empty(shape[1], bool), *grads)
    return tuple(d.astype(dtype, copy=False) for d, dtype in zip(grads, saved.dtypes, strict=True))


@kernel
def _chances(clean, sigma, noisy, order, given, k, weight, best, inside, z, total):
    experts, half, root = noisy.shape[1], noisy.dtype.type(0.5), noisy.dtype.type(0.5**0.5)
    for r in range(len(noisy)):
        if not given:
            choose(noisy[r], order[r], best)
        _mark(order[r], k, inside)
        for i in range(experts):
            if k >= experts:
                z[r, i] = np.inf
            else:
                at = order[r, k] if inside[i] else order[r, k - 1]
                z[r, i] = (clean[r, i] - (noisy[r, at] if at >= 0 else noisy.dtype.type(0))) / sigma[r, i]
            total[r % len(total), i] += weight[r] * (half * erfc(-z[r, i] * root))


@kernel
def _chances_backward(sigma, z, order, k, weight, dsums, inside, dclean, dsigma, dnoisy):
    for r in range(len(z)):
        _mark(order[r], k, inside)
        kth, next_one = z.dtype.type(0), z.dtype.type(0)
        for i in range(z.shape[1]):
            d = _density(z[r, i]) * (dsums[r % len(dsums), i] * weight[r]) / sigma[r, i]
            dclean[r, i], dsigma[r, i], dnoisy[r, i] = d, -z[r, i] * d, 0
            if inside[i]:
                next_one += d
            else:
                kth += d
        if order[r, k - 1] >= 0:
            dnoisy[r, order[r, k - 1]] -= kth
        if order[r, k] >= 0:
            dnoisy[r, order[r, k]] -= next_one


@kernel(entry=False)
def _mark(order, k, inside):
    """Which experts are in the top k."""
    for i in range(len(inside)):
        inside[i] = False
    for j in range(k):
        if order[j] >= 0:
            inside[order[j]] = True


@kernel(entry=False)
def _density(z):
    """Of the standard normal distribution, in the type of z."""
    return exp_down(z * z * type(z)(-0.5)) * type(z)(0.3989422804014327)


IMPL = Impl(forward, backward)
