"""What routers share that score, select and weigh the logits of one token at a time; in one pass."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from moespec_numba_cuda._arrays import empty, like, read
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda._rows import clear
from moespec_numba_cuda.gates._gather import take_row, untake_row
from moespec_numba_cuda.gates._order import select_row, selection
from moespec_numba_cuda.gates._renormalize import NORMS, unweigh_row, weigh_row
from moespec_numba_cuda.gates._scores import KINDS, SOFTMAX, score_row, through_score_row
from moespec_numba_cuda.gates._selected_softmax import selected_softmax_row


class Saved(NamedTuple):
    logits: Any             # T E   as they came
    scores: Any             # T E   of all, or T K of those selected; in the accumulation dtype
    ids: Any                # T K
    over: str
    how: tuple              # kind of score, norm, eps, scale, p


def routed(logits, indices, k, *, score="softmax", over="all", norm="none", eps=0.0, scale=1.0, p=1.0):
    """((ids, weights), saved) of logits that were admitted."""
    x, how = read(logits), (KINDS[score], NORMS[norm], eps, scale, p)
    given, ids = selection(indices, len(x), k)
    scores, weights, room = (empty(shape, x.dtype) for shape in (x.shape if over == "all" else ids.shape, ids.shape, ids.shape))
    FORWARD[over](items(len(x)), x, given, *how, scores, room, ids, weights)
    return (ids, like(logits, weights)), Saved(logits, scores, ids, over, how)


def through_route(saved, dweights):
    """The gradient of the logits."""
    x, (room, d) = read(saved.logits), (empty(saved.ids.shape, saved.scores.dtype) for _ in range(2))
    dlogits = empty(x.shape, x.dtype)
    BACKWARD[saved.over](items(len(x)), x, saved.scores, saved.ids, *saved.how, read(dweights, x.dtype), room, d, dlogits)
    return like(saved.logits, dlogits)


@kernel("T2 i2 i i T T T T2 T2 i2 T2")
def _all(logits, given, kind, norm, eps, scale, p, scores, room, ids, weights):
    zero = logits.dtype.type(0)
    for t in range(cuda.grid(1), len(logits), cuda.gridsize(1)):
        score_row(logits[t], kind, scores[t])
        select_row(scores[t], given, t, ids[t], room[t])
        take_row(scores[t], ids[t], zero, room[t])
        weigh_row(room[t], ids[t], norm, eps, scale, p, weights[t])


@kernel("T2 i2 i i T T T T2 T2 i2 T2")
def _selected(logits, given, kind, norm, eps, scale, p, scores, room, ids, weights):
    nothing = logits.dtype.type(-np.inf)
    for t in range(cuda.grid(1), len(logits), cuda.gridsize(1)):
        select_row(logits[t], given, t, ids[t], room[t])
        take_row(logits[t], ids[t], nothing, room[t])
        if kind == SOFTMAX:
            selected_softmax_row(room[t], ids[t], scores[t])
        else:
            score_row(room[t], kind, scores[t])
        weigh_row(scores[t], ids[t], norm, eps, scale, p, weights[t])


@kernel("T2 T2 i2 i i T T T T2 T2 T2 T2")
def _through_all(logits, scores, ids, kind, norm, eps, scale, p, dweights, room, d, dlogits):
    zero = logits.dtype.type(0)
    for t in range(cuda.grid(1), len(logits), cuda.gridsize(1)):
        take_row(scores[t], ids[t], zero, room[t])
        unweigh_row(room[t], ids[t], norm, eps, scale, p, dweights[t], d[t])
        clear(dlogits[t])
        untake_row(d[t], ids[t], dlogits[t])
        through_score_row(logits[t], scores[t], kind, dlogits[t], dlogits[t])


@kernel("T2 T2 i2 i i T T T T2 T2 T2 T2")
def _through_selected(logits, scores, ids, kind, norm, eps, scale, p, dweights, room, d, dlogits):
    nothing = logits.dtype.type(-np.inf)
    for t in range(cuda.grid(1), len(logits), cuda.gridsize(1)):
        take_row(logits[t], ids[t], nothing, room[t])
        unweigh_row(scores[t], ids[t], norm, eps, scale, p, dweights[t], d[t])
        through_score_row(room[t], scores[t], kind, d[t], d[t])
        clear(dlogits[t])
        untake_row(d[t], ids[t], dlogits[t])


FORWARD = {"all": _all, "selected": _selected}
BACKWARD = {"all": _through_all, "selected": _through_selected}
