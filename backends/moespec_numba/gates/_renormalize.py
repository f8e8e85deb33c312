"""gates.renormalize, and its row forms."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read

NONE, SUM, CLAMP = 0, 1, 2
NORMS = {"none": NONE, "sum": SUM, "clamp": CLAMP}


class Saved(NamedTuple):
    chosen: np.ndarray      # T K
    indices: np.ndarray     # T K
    how: tuple              # norm (lp: p), eps, scale
    kernels: tuple          # forward, backward


def forward(chosen, indices, *, norm="none", eps=0.0, scale=1.0, p=1.0):
    OPS["gates.renormalize"].admit(chosen, indices, norm=norm, eps=eps, scale=scale, p=p)
    if norm == "lp":
        how, kernels = tuple(map(chosen.dtype.type, (p, eps, scale))), (_weigh_lp, _unweigh_lp)
    else:
        how, kernels = typed(norm, eps, scale, chosen.dtype), (_weigh, _unweigh)
    saved = Saved(read(chosen), read(indices, "int64"), how, kernels)
    weights = empty(chosen.shape, chosen.dtype)
    kernels[0](saved.chosen, saved.indices, *how, weights)
    return weights, saved


def backward(saved, dweights):
    dchosen = empty(dweights.shape, dweights.dtype)
    saved.kernels[1](saved.chosen, saved.indices, *saved.how, read(dweights), dchosen)
    return dchosen


def typed(norm, eps, scale, dtype):
    """The attributes as a kernel takes them: an int and two numbers of the array's dtype."""
    return NORMS[norm], dtype.type(eps), dtype.type(scale)


@kernel(entry=False)
def normaliser(chosen, ids, norm, eps):
    """The total that a token is divided by, and whether it follows the scores; 1 where it has no expert."""
    total, live = chosen.dtype.type(0), False
    for j in range(len(ids)):
        if ids[j] >= 0:
            live, total = True, total + chosen[j]
    follows = norm == SUM or total >= eps
    if not live or norm == NONE:
        return chosen.dtype.type(1), follows
    return total + eps if norm == SUM else (total if follows else eps), follows


@kernel(entry=False)
def weigh_row(chosen, ids, norm, eps, scale, weights):
    """What follows the choice: weights of one token, 0 at -1."""
    total, _ = normaliser(chosen, ids, norm, eps)
    for j in range(len(ids)):
        weights[j] = chosen[j] / total * scale if ids[j] >= 0 else 0


@kernel(entry=False)
def unweigh_row(chosen, ids, norm, eps, scale, dweights, dchosen):
    """The gradient of `chosen`, 0 at -1."""
    total, follows = normaliser(chosen, ids, norm, eps)
    through = chosen.dtype.type(0)
    if norm != NONE and follows:
        for j in range(len(ids)):
            if ids[j] >= 0:
                through += dweights[j] * chosen[j]
        through /= total
    for j in range(len(ids)):
        dchosen[j] = scale * ((dweights[j] - through) / total) if ids[j] >= 0 else 0


@kernel
def _weigh(chosen, ids, norm, eps, scale, weights):
    for t in range(len(ids)):
        weigh_row(chosen[t], ids[t], norm, eps, scale, weights[t])


@kernel
def _unweigh(chosen, ids, norm, eps, scale, dweights, dchosen):
    for t in range(len(ids)):
        unweigh_row(chosen[t], ids[t], norm, eps, scale, dweights[t], dchosen[t])


@kernel(entry=False)
def _length(chosen, ids, p):
    """The p-norm of a token's scores."""
    total = chosen.dtype.type(0)
    for j in range(len(ids)):
        if ids[j] >= 0:
            total += abs(chosen[j]) ** p
    return total ** (chosen.dtype.type(1) / p)


@kernel
def _weigh_lp(chosen, ids, p, eps, scale, weights):
    for t in range(len(ids)):
        length = _length(chosen[t], ids[t], p)
        for j in range(ids.shape[1]):
            weights[t, j] = chosen[t, j] / (length + eps) * scale if ids[t, j] >= 0 else 0


@kernel
def _unweigh_lp(chosen, ids, p, eps, scale, dweights, dchosen):
    one = chosen.dtype.type(1)
    for t in range(len(ids)):
        length = _length(chosen[t], ids[t], p)
        through = chosen.dtype.type(0)
        for j in range(ids.shape[1]):
            if ids[t, j] >= 0:
                through += dweights[t, j] * chosen[t, j]
        for j in range(ids.shape[1]):
            c, dchosen[t, j] = chosen[t, j], 0
            if ids[t, j] >= 0:
                slope = (abs(c) / length) ** (p - one) if c != 0 else chosen.dtype.type(0)
                slope = -slope if c < 0 else slope
                dchosen[t, j] = scale * ((dweights[t, j] - through / (length + eps) * slope) / (length + eps))


IMPL = Impl(forward, backward)
