"""losses.sequence_balance.

A sequence goes by the number of one of its tokens, whichever enters it first: nothing but this number depends on who does.  Atomics are
on integers alone, so that results repeat.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import empty, full, like, read, zeros
from moespec_numba_cuda._device import cuda, device
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda._rows import legal, total
from moespec_numba_cuda.losses._balance import per_assignment
from moespec_numba_cuda.losses._mean import cotangent, count_valid, counts, masked, mean


class Saved(NamedTuple):
    scores: Any             # T E
    number: Any             # T     the sequence, -1 where the token does not count
    chosen: Any             # G E   how often; G = T, since nobody knows how many there are
    sizes: Any              # G     tokens that count
    live: Any               # 1     sequences that have one, at least 1
    how: tuple[int, bool]   # assignments per token, normalize


def forward(scores, indices, group=None, mask=None, *, normalize=True, normalizer="assignments"):
    dims = admit("losses.sequence_balance", scores, indices, group, mask, normalize=normalize, normalizer=normalizer)
    x, groups = read(scores), 1 if group is None else max(dims.T, 1)
    number, chosen, sizes, some = full(dims.T, -1, "int64"), zeros((groups, dims.E), "int32"), zeros(groups, "int32"), empty(groups, "bool")
    _enter(items(dims.T), empty(0, "int64") if group is None else read(group, "int64"), masked(mask), full(2 * groups, -1, "int64"), number)
    _count(items(dims.T), read(indices, "int64"), number, chosen, sizes)
    _some(items(groups), sizes, some)
    saved = Saved(scores, number, chosen, sizes, count_valid(some, groups), (per_assignment(dims.K, normalizer), normalize))
    terms = empty(dims.T, x.dtype)
    _terms(items(dims.T), x, *saved[1:5], *saved.how, terms)
    return mean(terms, masked(None), full(1, 1, "float64"), x.dtype), saved


def backward(saved, dloss):
    x = read(saved.scores)
    dscores = empty(x.shape, x.dtype)
    _backward(items(len(x)), x, *saved[1:5], *saved.how, cotangent(dloss, x.dtype), dscores)
    return like(saved.scores, dscores)


@kernel("i1 b1 i1 i1")
def _enter(group, mask, table, number):
    """Open addressing: a place of the table belongs to the sequence of the first token that found it free."""
    for t in range(cuda.grid(1), len(number), cuda.gridsize(1)):
        if counts(mask, t) and len(group) == 0:
            number[t] = 0
        elif counts(mask, t) and group[t] >= 0:
            at, owner = group[t] % len(table), -1
            while owner < 0:
                before = cuda.atomic.cas(table, at, -1, t)
                if before < 0:
                    owner = t
                elif group[before] == group[t]:
                    owner = before
                at = (at + 1) % len(table)
            number[t] = owner


@kernel("i2 i1 j2 j1")
def _count(ids, number, chosen, sizes):
    for t in range(cuda.grid(1), len(number), cuda.gridsize(1)):
        if number[t] >= 0:
            cuda.atomic.add(sizes, number[t], 1)
            for j in range(ids.shape[1]):
                e = legal(ids[t, j], chosen.shape[1])
                if e >= 0:
                    cuda.atomic.add(chosen, (number[t], e), 1)


@kernel("j1 b1")
def _some(sizes, some):
    for g in range(cuda.grid(1), len(sizes), cuda.gridsize(1)):
        some[g] = sizes[g] > 0


@device
def _each(size, live, per, experts):
    """What a choice counts in the weight of a probability; float64."""
    return experts / (live * per * size * size)


@device
def _weighted(scores, chosen, each, whole):
    """(the sum of weights times probabilities, whether there is a weight): where it is 0 it hides its score; without a sum all are 0."""
    found, live = scores.dtype.type(0), False
    for e in range(len(scores)):
        if chosen[e] != 0:
            live = True
            if whole != 0:
                found += scores.dtype.type(each * chosen[e]) * (scores[e] / whole)
    return found, live


@kernel("T2 i1 j2 j1 d1 i b T1")
def _terms(scores, number, chosen, sizes, live, per, normalize, terms):
    one = scores.dtype.type(1)
    for t in range(cuda.grid(1), len(terms), cuda.gridsize(1)):
        g = number[t]
        terms[t] = 0
        if g >= 0:
            each = _each(sizes[g], live[0], per, scores.shape[1])
            terms[t] = _weighted(scores[t], chosen[g], each, total(scores[t]) if normalize else one)[0]


@kernel("T2 i1 j2 j1 d1 i b T1 T2")
def _backward(scores, number, chosen, sizes, live, per, normalize, dloss, dscores):
    for t in range(cuda.grid(1), scores.shape[0], cuda.gridsize(1)):
        g = number[t]
        each = _each(sizes[g], live[0], per, scores.shape[1]) if g >= 0 else live[0] * 0
        whole, along, some = scores.dtype.type(1), scores.dtype.type(0), True
        if g >= 0 and normalize:
            whole = total(scores[t])
            along, some = _weighted(scores[t], chosen[g], each, whole)
        for e in range(scores.shape[1]):
            if g >= 0 and some and whole != 0:
                dscores[t, e] = (scores.dtype.type(each * chosen[g, e]) - along) / whole * dloss[0]
            else:
                dscores[t, e] = 0


IMPL = Impl(forward, backward)
