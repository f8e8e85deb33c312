"""losses.z_loss."""

from __future__ import annotations

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import empty, like, read
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda._rows import clear
from moespec_numba_cuda.gates._softmax import softmax_row
from moespec_numba_cuda.losses._lse import lse_row
from moespec_numba_cuda.losses._mean import cotangent, count_valid, counts, masked, mean, per_token


class Saved(NamedTuple):
    logits: Any             # T E
    lse: Any                # T   of the tokens that count
    mask: Any               # T, or empty
    counted: Any            # 1


def forward(logits, mask=None):
    admit("losses.z_loss", logits, mask)
    x, mask = read(logits), masked(mask)
    lse, squares, counted = empty(len(x), x.dtype), empty(len(x), x.dtype), count_valid(mask, len(x))
    _squares(items(len(x)), x, mask, lse, squares)
    return mean(squares, mask, counted, x.dtype), Saved(logits, lse, mask, counted)


def backward(saved, dloss):
    x = read(saved.logits)
    dlogits = empty(x.shape, x.dtype)
    _backward(items(len(x)), x, saved.lse, saved.mask, saved.counted, cotangent(dloss, x.dtype), dlogits)
    return like(saved.logits, dlogits)


@kernel("T2 b1 T1 T1")
def _squares(logits, mask, lse, squares):
    for t in range(cuda.grid(1), logits.shape[0], cuda.gridsize(1)):
        if counts(mask, t):
            lse[t] = lse_row(logits[t])
            squares[t] = lse[t] * lse[t]


@kernel("T2 T1 b1 d1 T1 T2")
def _backward(logits, lse, mask, counted, dloss, dlogits):
    share = per_token(2.0, dloss, counted)
    for t in range(cuda.grid(1), logits.shape[0], cuda.gridsize(1)):
        if counts(mask, t):
            softmax_row(logits[t], dlogits[t])
            for e in range(logits.shape[1]):
                dlogits[t, e] *= share * lse[t]
        else:
            clear(dlogits[t])


IMPL = Impl(forward, backward)
