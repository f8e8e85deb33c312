"""gates.sparsemixer."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._exp import exp_down
from moespec_numba._kernel import OPS, empty, kernel, read
from moespec_numba._vector import clear, copy
from moespec_numba.gates._order import above, choose, selection

FACTOR, CHANCE = 0.3333, 0.75           # of another expert than the best, and how often it applies


class Saved(NamedTuple):
    probs: np.ndarray       # T K E
    ids: np.ndarray         # T K


def forward(logits, indices=None, noise=None, heun=None, *, k=2, eps=0.01):
    dims = OPS["gates.sparsemixer"].admit(logits, indices, noise, heun, k=k, eps=eps)
    ids, given = selection(indices, dims.T, k)
    weights, probs = empty(ids.shape, logits.dtype), empty((*ids.shape, dims.E), logits.dtype)
    sampled = noise is not None and not given
    epsilon = read(noise, np.result_type(noise, logits)) if sampled else empty((0, 0, 0), logits.dtype)
    full = np.ones(ids.shape, bool) if heun is None else heun > CHANCE
    _sparsemixer(read(logits), read(epsilon), read(full), logits.dtype.type(2 * eps), given, sampled, ids, weights, probs)
    return (ids, weights), Saved(read(probs), read(ids))


def backward(saved, dweights):
    dlogits = empty(saved.probs.shape[::2], saved.probs.dtype)
    _backward(*saved, read(dweights), dlogits)
    return dlogits


@kernel
def _sparsemixer(logits, noise, full, width, given, sampled, ids, weights, probs):
    tokens, k = ids.shape
    left, best, taken = np.empty(logits.shape[1], logits.dtype), np.empty(k, logits.dtype), np.empty(logits.shape[1], np.bool_)
    one, factor = logits.dtype.type(1), logits.dtype.type(FACTOR)
    for t in range(tokens):
        copy(left, logits[t])
        clear(taken)
        if not given and not sampled:
            choose(left, ids[t], best)
        for j in range(k):
            first = _among_the_best(left, width, probs[t, j])
            if sampled:
                ids[t, j] = _draw(left, left[first], width, noise[t, j], taken)
            i = ids[t, j]
            weights[t, j] = 0
            if i >= 0:
                weights[t, j] = probs[t, j, i] * (one if full[t, j] or i == first else factor)
                left[i], taken[i] = -np.inf, True


@kernel
def _among_the_best(left, width, probs):
    """The softmax over the experts near the best one, whose id it returns."""
    first, total = 0, left.dtype.type(0)
    for e in range(1, len(left)):
        first = e if above(left[e], left[first]) else first
    for e in range(len(left)):
        probs[e] = 0 if _far(left[e], left[first], width) else exp_down(left[e] - left[first])
        total += probs[e]
    for e in range(len(left)):
        probs[e] /= total
    return first


@kernel(inline="always")
def _far(x, top, width):
    """Whether an expert stays out; nothing is far from a NaN."""
    return top - x > width * max(abs(x), top)


@kernel
def _draw(left, top, width, noise, taken):
    """The largest of the perturbed logits that is not taken, also where all that is left is -inf."""
    drawn, best = -1, noise.dtype.type(0)
    for e in range(len(left)):
        x = (-np.inf if _far(left[e], top, width) else left[e]) + noise[e]
        if not taken[e] and (drawn < 0 or above(x, best)):
            drawn, best = e, x
    return drawn


@kernel
def _backward(probs, ids, dweights, dlogits):
    """p (onehot - p) times the cotangent, without the factor."""
    for t in range(len(ids)):
        clear(dlogits[t])
        for j in range(ids.shape[1]):
            i = ids[t, j]
            if i >= 0:
                pull = probs[t, j, i] * dweights[t, j]
                for e in range(probs.shape[2]):
                    dlogits[t, e] -= probs[t, j, e] * pull
                dlogits[t, i] += pull


IMPL = Impl(forward, backward)
