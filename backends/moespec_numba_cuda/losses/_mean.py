"""Sums over tokens, of those that count: chunks, then their sum; in float64 and always in the same order.  How many count stays on the device."""

from __future__ import annotations

from moespec_numba_cuda._arrays import empty, flat, full, read
from moespec_numba_cuda._chunks import chunks_of
from moespec_numba_cuda._device import cuda, device
from moespec_numba_cuda._kernel import items, kernel


def masked(mask):
    """As kernels take it: an empty one where there is none."""
    return empty(0, "bool") if mask is None else read(mask)


def column_sums(x, mask):
    """float64[E]: sums of x[T, E] over the tokens that count; the others are not read."""
    partial = empty((chunks_of(len(x)), x.shape[1]), "float64")
    _add_rows(items(partial.size), x, mask, partial)
    return sum_chunks(partial)


def sum_chunks(partial):
    """float64[E]: the sums of partial[chunks, E]."""
    sums = empty(partial.shape[1], "float64")
    _sum_chunks(items(len(sums)), partial, sums)
    return sums


def count_valid(mask, tokens):
    """float64[1]: how many tokens count, at least 1."""
    if not len(mask):
        return full(1, max(tokens, 1), "float64")
    partial = empty((chunks_of(tokens), 1), "float64")
    _count(items(len(partial)), mask, partial)
    return at_least_one(sum_chunks(partial))


def at_least_one(counts):
    """float64[n]: what may be divided by."""
    divisors = empty(counts.shape, "float64")
    _at_least_one(items(len(counts)), counts, divisors)
    return divisors


def mean(values, mask, counted, dtype, factor=1.0):
    """A scalar: `factor` times the mean of values[T] over the tokens that count."""
    loss = empty(1, dtype)
    _divide(items(1), column_sums(values.reshape(len(values), 1), mask), counted, factor, loss)
    return loss.reshape(())


def cotangent(dloss, dtype):
    """[1]: the cotangent of a scalar as kernels take it."""
    return flat(read(dloss, dtype))


@device
def counts(mask, t):
    """Whether a token does."""
    return len(mask) == 0 or mask[t]


@device
def per_token(factor, dloss, counted):
    """What the mean, times `factor`, hands to every token that counts."""
    return dloss.dtype.type(factor * dloss[0] / counted[0])


@kernel("T2 b1 d2")
def _add_rows(x, mask, partial):
    parts, width, tokens = partial.shape[0], partial.shape[1], x.shape[0]
    for i in range(cuda.grid(1), parts * width, cuda.gridsize(1)):
        c, e = i // width, i % width
        total = partial.dtype.type(0)
        for t in range(c * tokens // parts, (c + 1) * tokens // parts):
            if counts(mask, t):
                total += x[t, e]
        partial[c, e] = total


@kernel("d2 d1")
def _sum_chunks(partial, sums):
    for e in range(cuda.grid(1), len(sums), cuda.gridsize(1)):
        total = partial.dtype.type(0)
        for c in range(partial.shape[0]):
            total += partial[c, e]
        sums[e] = total


@kernel("b1 d2")
def _count(mask, partial):
    parts, tokens = partial.shape[0], len(mask)
    for c in range(cuda.grid(1), parts, cuda.gridsize(1)):
        found = 0
        for t in range(c * tokens // parts, (c + 1) * tokens // parts):
            if mask[t]:
                found += 1
        partial[c, 0] = found


@kernel("d1 d1")
def _at_least_one(counts, divisors):
    for i in range(cuda.grid(1), len(counts), cuda.gridsize(1)):
        divisors[i] = counts[i] if counts[i] > 1 else 1


@kernel("d1 d1 d T1")
def _divide(total, counted, factor, loss):
    for i in range(cuda.grid(1), len(loss), cuda.gridsize(1)):
        loss[i] = factor * total[i] / counted[i]
