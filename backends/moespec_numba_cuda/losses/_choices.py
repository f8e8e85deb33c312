"""Sums over the choices of an expert, by chunks of tokens as in `_mean`; and what every choice gets back from its expert."""

from __future__ import annotations

from moespec_numba_cuda._arrays import empty, zeros
from moespec_numba_cuda._chunks import CHUNK, chunks_of
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda._rows import legal
from moespec_numba_cuda.losses._mean import counts, sum_chunks


def choice_sums(ids, experts, mask, weights=None, columns=None):
    """float64[E]: the weights, or the number, of the choices ids[T, K] of every expert; the first `columns` of the tokens that count."""
    table = choice_table(ids, experts)
    weights = empty((0, 0), "float32") if weights is None else weights
    _add_choices(items(len(table)), ids, weights, mask, ids.shape[1] if columns is None else columns, table)
    return sum_chunks(table)


def choice_table(ids, experts):
    """float64[chunks, E] of zeros, not larger than the ids."""
    return zeros((min(chunks_of(len(ids)), max(1, ids.size // max(CHUNK, experts))), experts), "float64")


def to_choices(ids, values, mask):
    """[T, K]: the values[E] of those chosen; 0 where nobody is, or the token does not count."""
    out = empty(ids.shape, values.dtype)
    _to_choices(items(out.size), ids, values, mask, out)
    return out


@kernel("i2 T2 b1 i d2")
def _add_choices(ids, weights, mask, columns, table):
    parts, experts, tokens = table.shape[0], table.shape[1], ids.shape[0]
    for c in range(cuda.grid(1), parts, cuda.gridsize(1)):
        for t in range(c * tokens // parts, (c + 1) * tokens // parts):
            for j in range(columns if counts(mask, t) else 0):
                e = legal(ids[t, j], experts)
                if e >= 0:
                    table[c, e] += weights[t, j] if len(weights) else 1


@kernel("i2 T1 b1 T2")
def _to_choices(ids, values, mask, out):
    width = ids.shape[1]
    for i in range(cuda.grid(1), ids.shape[0] * width, cuda.gridsize(1)):
        t, j = i // width, i % width
        e = legal(ids[t, j], len(values)) if counts(mask, t) else -1
        out[t, j] = values[e] if e >= 0 else 0
