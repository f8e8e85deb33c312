"""gates.gather, and its row forms."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import empty, like, read
from moespec_numba_cuda._device import cuda, device
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda._rows import legal


def forward(scores, indices, *, missing=0.0):
    admit("gates.gather", scores, indices, missing=missing)
    x = read(scores)
    chosen = empty(indices.shape, x.dtype)
    _gather(items(chosen.size), x, read(indices, "int64"), missing, chosen)
    return like(scores, chosen), (indices, scores.shape[1])


def backward(saved, dchosen):
    indices, experts = saved
    return like(dchosen, untake(read(dchosen), read(indices, "int64"), experts))


def untake(dchosen, ids, experts):
    """[T, E]: what the choices of a token add up to for every expert, in ascending order of choice."""
    dscores = empty((len(ids), experts), dchosen.dtype)
    _scatter(items(dscores.size), dchosen, ids, dscores)
    return dscores


@device
def take_row(scores, ids, missing, chosen):
    """chosen = scores[ids], `missing` at nobody."""
    for j in range(len(ids)):
        e = legal(ids[j], len(scores))
        chosen[j] = missing
        if e >= 0:
            chosen[j] = scores[e]


@device
def untake_row(dchosen, ids, dscores):
    """dscores[ids] += dchosen."""
    for j in range(len(ids)):
        e = legal(ids[j], len(dscores))
        if e >= 0:
            dscores[e] += dchosen[j]


@kernel("T2 i2 T T2")
def _gather(scores, ids, missing, chosen):
    experts, choices = scores.shape[1], ids.shape[1]
    for i in range(cuda.grid(1), ids.shape[0] * choices, cuda.gridsize(1)):
        t, j = i // choices, i % choices
        e = legal(ids[t, j], experts)
        chosen[t, j] = scores[t, e] if e >= 0 else missing


@kernel("T2 i2 T2")
def _scatter(dchosen, ids, dscores):
    (tokens, choices), experts, zero = ids.shape, dscores.shape[1], dscores.dtype.type(0)
    for i in range(cuda.grid(1), tokens * experts, cuda.gridsize(1)):
        t, e = i // experts, i % experts
        total = zero
        for j in range(choices):
            if ids[t, j] == e:
                total += dchosen[t, j]
        dscores[t, e] = total


IMPL = Impl(forward, backward)
