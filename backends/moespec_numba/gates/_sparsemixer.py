"""gates.sparsemixer."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read, zeros
from moespec_numba.gates._order import above, choose

CHANCE, THIRD = 0.75, 0.3333        # the published constants


class Routing(NamedTuple):
    indices: np.ndarray     # T K
    weights: np.ndarray     # T K


class Saved(NamedTuple):
    probs: np.ndarray       # T K E
    shares: np.ndarray      # T K
    indices: np.ndarray     # T K


def forward(logits, indices=None, noise=None, heun=None, *, k=2, eps=0.01):
    dims = OPS["gates.sparsemixer"].admit(logits, indices, noise, heun, k=k, eps=eps)
    dtype = logits.dtype
    ids = empty((dims.T, k), "int64") if indices is None else np.array(indices, "int64", order="C")
    probs, shares, weights = empty((dims.T, k, dims.E), dtype), empty((dims.T, k), dtype), empty((dims.T, k), dtype)
    perturbation = read(np.zeros((dims.T, 0, 0), dtype) if noise is None else noise, dtype)
    uniform = read(np.ones((dims.T, k), dtype) if heun is None else heun, dtype)
    choice = 2 if indices is not None else int(noise is not None)
    _mix(read(logits), perturbation, uniform, dtype.type(2) * dtype.type(eps), dtype.type(CHANCE), dtype.type(THIRD), choice,
         ids, probs, shares, weights, empty(dims.E, dtype))
    return Routing(ids, weights), Saved(read(probs), read(shares), read(ids))


def backward(saved, dweights):
    dlogits = zeros((len(dweights), saved.probs.shape[2]), dweights.dtype)
    _teach(saved.probs, saved.shares, saved.indices, read(dweights), dlogits)
    return dlogits


@kernel
def _mix(logits, noise, uniform, wide, chance, third, choice, ids, probs, shares, weights, left):
    """One expert after the other; `choice` is 0 for the best, 1 for a sample, 2 for the given ids."""
    k, zero, lowest = ids.shape[1], logits.dtype.type(0), logits.dtype.type(-np.inf)
    best, first = np.empty(k, logits.dtype), np.empty(1, np.int64)
    for t in range(len(ids)):
        left[:] = logits[t]
        if choice == 0:
            choose(logits[t], ids[t], best)
        for j in range(k):
            p = probs[t, j]
            _among_the_best(left, wide, p)
            choose(left, first, best)
            if choice == 1:
                ids[t, j] = _sample(left, wide, noise[t, j], ids[t, :j])
            i = ids[t, j]
            shares[t, j] = p[i] if i >= 0 else zero
            damped = i != first[0] and not uniform[t, j] > chance
            weights[t, j] = shares[t, j] * third if damped else shares[t, j]
            if i >= 0:
                left[i] = lowest


@kernel
def _top(left):
    """The maximum; NaN if there is one."""
    top = left[0]
    for e in range(1, len(left)):
        if left[e] > top or left[e] != left[e]:
            top = left[e]
        if top != top:
            break
    return top


@kernel
def _far(value, top, wide):
    """Whether a logit is left out: not within a relative distance of the best."""
    size = max(abs(value), top)
    return top - value > wide * size if size == size else False


@kernel
def _among_the_best(left, wide, p):
    """p = softmax of `left` over what comes close to its maximum."""
    top, total = _top(left), left.dtype.type(0)
    for e in range(len(left)):
        p[e] = left.dtype.type(0) if _far(left[e], top, wide) else np.exp(left[e] - top)
        total += p[e]
    for e in range(len(left)):
        p[e] /= total


@kernel
def _sample(left, wide, noise, taken):
    """The largest perturbed logit that is not taken, in the normative order."""
    top, found, best = _top(left), -1, left[0]
    for e in range(len(left)):
        free = True
        for i in taken:
            free = free and i != e
        if free:
            value = (left.dtype.type(-np.inf) if _far(left[e], top, wide) else left[e]) + noise[e]
            if found < 0 or above(value, best):
                found, best = e, value
    return found


@kernel
def _teach(probs, shares, ids, d, dlogits):
    for t in range(len(ids)):
        for j in range(ids.shape[1]):
            i, pull = ids[t, j], shares[t, j] * d[t, j]
            if i >= 0:
                for e in range(dlogits.shape[1]):
                    dlogits[t, e] -= probs[t, j, e] * pull
                dlogits[t, i] += pull


IMPL = Impl(forward, backward)
