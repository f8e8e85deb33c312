"""losses.sequence_balance."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read, zeros
from moespec_numba.dispatch._serving import numbered
from moespec_numba.losses._scalar import rounded, valid


class Saved(NamedTuple):
    scores: np.ndarray      # T E
    group: np.ndarray       # T     numbered from 0
    mask: np.ndarray        # T
    weights: np.ndarray     # G E   of a probability in the loss, for valid tokens
    normalize: bool


def forward(scores, indices, group=None, mask=None, *, normalize=True, normalizer="assignments"):
    dims = OPS["losses.sequence_balance"].admit(scores, indices, group, mask, normalize=normalize, normalizer=normalizer)
    rows, groups = numbered(group, dims.T)
    mask, _ = valid(mask, dims.T)
    counts, sizes = zeros((groups, dims.E), "float64"), zeros((groups, 1), "float64")
    _count(read(indices, "int64"), rows, mask, counts, sizes)
    per_token = max(dims.K, 1) if normalizer == "assignments" else 1
    weights = dims.E * counts / (np.maximum(sizes, 1) ** 2 * per_token * max(int((sizes > 0).sum()), 1))
    saved = Saved(read(scores), rows, mask, read(weights, scores.dtype), normalize)
    return rounded(_loss(*saved), scores.dtype), saved


def backward(saved, dloss):
    dscores = empty(saved.scores.shape, saved.scores.dtype)
    _backward(*saved, rounded(dloss, dscores.dtype), dscores)
    return dscores


@kernel
def _count(ids, group, mask, counts, sizes):
    """Assignments and valid tokens of every group."""
    for t in range(len(ids)):
        if mask[t]:
            sizes[group[t], 0] += 1
            for j in range(ids.shape[1]):
                if ids[t, j] >= 0:
                    counts[group[t], ids[t, j]] += 1


@kernel(entry=False)
def _total(scores, normalize):
    """What a token's scores are divided by."""
    total = scores.dtype.type(0 if normalize else 1)
    for e in range(len(scores) if normalize else 0):
        total += scores[e]
    return total


@kernel(entry=False)
def _inner(scores, weights, total):
    """(sum of weights times probabilities, any): a weight of 0 hides its score; without a total all are 0."""
    found, live = scores.dtype.type(0), False
    for e in range(len(scores)):
        if weights[e] != 0:
            live = True
            found += weights[e] * (scores[e] / total) if total != 0 else 0
    return found, live


@kernel
def _loss(scores, group, mask, weights, normalize):
    total = np.float64(0)
    for t in range(len(scores)):
        if mask[t]:
            total += _inner(scores[t], weights[group[t]], _total(scores[t], normalize))[0]
    return total


@kernel
def _backward(scores, group, mask, weights, normalize, dloss, dscores):
    for t in range(len(scores)):
        own, total = weights[group[t]], _total(scores[t], normalize)
        inner, live = _inner(scores[t], own, total)
        live = live and mask[t] and total != 0
        for e in range(scores.shape[1]):
            d = own[e] - inner if normalize else own[e]
            dscores[t, e] = d / total * dloss if live else 0


IMPL = Impl(forward, backward)
