"""gates.gather, and its row forms."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read, zeros


class Saved(NamedTuple):
    indices: np.ndarray     # T K
    experts: int


def forward(scores, indices, *, missing=0.0):
    dims = OPS["gates.gather"].admit(scores, indices)
    ids, chosen = read(indices, "int64"), empty(indices.shape, scores.dtype)
    _gather(read(scores), ids, scores.dtype.type(missing), chosen)
    return chosen, Saved(ids, dims.E)


def backward(saved, dchosen):
    dscores = zeros((len(dchosen), saved.experts), dchosen.dtype)
    _scatter(read(dchosen), saved.indices, dscores)
    return dscores


@kernel(entry=False)
def take_row(scores, ids, missing, chosen):
    """chosen = scores[ids], `missing` at -1."""
    for j in range(len(ids)):
        chosen[j] = scores[ids[j]] if ids[j] >= 0 else missing


@kernel(entry=False)
def untake_row(dchosen, ids, dscores):
    """dscores[ids] += dchosen; nothing at -1."""
    for j in range(len(ids)):
        if ids[j] >= 0:
            dscores[ids[j]] += dchosen[j]


@kernel
def _gather(scores, ids, missing, chosen):
    for t in range(len(ids)):
        take_row(scores[t], ids[t], missing, chosen[t])


@kernel
def _scatter(dchosen, ids, dscores):
    for t in range(len(ids)):
        untake_row(dchosen[t], ids[t], dscores[t])


IMPL = Impl(forward, backward)
