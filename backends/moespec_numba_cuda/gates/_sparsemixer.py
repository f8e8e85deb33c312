"""gates.sparsemixer."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import common, convert, empty, like, read
from moespec_numba_cuda._device import cuda, device
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda._math import exp
from moespec_numba_cuda._rows import clear, legal
from moespec_numba_cuda.gates._order import above, choose

FACTOR, CHANCE = 0.3333, 0.75           # of another expert than the best, and how often it applies


class Saved(NamedTuple):
    probs: Any              # T K E
    ids: Any                # T K
    dtype: Any              # of the logits


def forward(logits, indices=None, noise=None, heun=None, *, k=2, eps=0.01):
    dims = admit("gates.sparsemixer", logits, indices, noise, heun, k=k, eps=eps)
    x, epsilon, u = common(logits, noise, heun)
    given, sampled = indices is not None, indices is None and noise is not None
    ids = read(indices, "int64") if given else empty((dims.T, k), "int64")
    left, weights, probs = empty(x.shape, x.dtype), empty(ids.shape, x.dtype), empty((dims.T, k, dims.E), x.dtype)
    epsilon, u = epsilon if sampled else empty((0, 0, 0), x.dtype), empty((0, 0), x.dtype) if u is None else u
    _mix(items(dims.T), x, epsilon, u, 2 * float(eps), given, left, ids, weights, probs)
    return (ids, like(logits, weights)), Saved(probs, ids, logits.dtype)


def backward(saved, dweights):
    probs, ids, dtype = saved
    dlogits = empty((len(probs), probs.shape[2]), probs.dtype)
    _through(items(len(probs)), probs, ids, read(dweights, probs.dtype), dlogits)
    return convert(dlogits, dtype)


@kernel("T2 T3 T2 T b T2 i2 T2 T3")
def _mix(logits, noise, heun, width, given, left, ids, weights, probs):
    """`left` is room for the logits of a token, -inf where they are taken."""
    experts, choices, one = logits.shape[1], ids.shape[1], logits.dtype.type(1)
    for t in range(cuda.grid(1), len(logits), cuda.gridsize(1)):
        for e in range(experts):
            left[t, e] = logits[t, e]
        if not given and len(noise) == 0:
            choose(left[t], ids[t], weights[t])                     # the weights are not yet there: room
        for j in range(choices):
            first = among_the_best(left[t], width, probs[t, j])
            if len(noise) > 0:
                ids[t, j] = draw(left[t], left[t, first], width, noise[t, j], ids[t], j)
            i = legal(ids[t, j], experts)
            if i >= 0:
                full = i == first or len(heun) == 0 or heun[t, j] > CHANCE
                weights[t, j] = probs[t, j, i] * (one if full else logits.dtype.type(FACTOR))
                left[t, i] = -np.inf
            else:
                weights[t, j] = 0


@device
def far(x, top, width):
    """Whether an expert stays out; nothing is far from a NaN."""
    size = x if x > 0 else -x
    return top - x > width * (size if size > top else top)


@device
def among_the_best(left, width, probs):
    """The softmax over the experts near the best one, whose id it returns."""
    first, total = 0, left.dtype.type(0)
    for e in range(1, len(left)):
        if above(left[e], left[first]):
            first = e
    for e in range(len(left)):
        probs[e] = 0 if far(left[e], left[first], width) else exp(left[e] - left[first])
        total += probs[e]
    for e in range(len(left)):
        probs[e] /= total
    return first


@device
def draw(left, top, width, noise, ids, count):
    """The largest of the perturbed logits that is none of the first `count` ids, also where all that is left is -inf."""
    drawn, best = -1, noise.dtype.type(0)
    for e in range(len(left)):
        free = True
        for j in range(count):
            if ids[j] == e:
                free = False
        x = (noise.dtype.type(-np.inf) if far(left[e], top, width) else left[e]) + noise[e]
        if free and (drawn < 0 or above(x, best)):
            drawn, best = e, x
    return drawn


@kernel("T3 i2 T2 T2")
def _through(probs, ids, dweights, dlogits):
    """p (onehot - p) times the cotangent, without the factor."""
    experts = probs.shape[2]
    for t in range(cuda.grid(1), len(probs), cuda.gridsize(1)):
        clear(dlogits[t])
        for j in range(ids.shape[1]):
            i = legal(ids[t, j], experts)
            if i >= 0:
                pull = probs[t, j, i] * dweights[t, j]
                for e in range(experts):
                    dlogits[t, e] -= probs[t, j, e] * pull
                dlogits[t, i] += pull


IMPL = Impl(forward, backward)
