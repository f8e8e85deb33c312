"""Which of many numbers has a given rank: digit after digit of their bits, counted in chunks; of few by comparing all with all."""

from __future__ import annotations

import numpy as np

from moespec_numba_cuda._arrays import empty, full
from moespec_numba_cuda._chunks import chunks_of
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda.gates._order import above

FEW = 32                                # are ranked by comparing
SIGN = np.int64(-(2**63))
INFINITY = np.int64(0x7FF0000000000000)
MOST = np.int64(0x7FF8000000000000)     # a NaN, as a key above that of infinity
DIGIT, VALUES = 4, 16                   # bits, and what they can be
LAST = {"float32": 28, "float64": 0}    # below this bit a double that was a float32 has none


def nth(values, n, holds="float64"):
    """[R], of float64: of every row of `values`, float64 [R, N], the one that n others come before in descending order; NaN first.

    The values are lost.  `holds` is the dtype that they came from.
    """
    rows = len(values)
    if values.shape[1] <= FEW:
        found = empty(rows, "float64")
        _nth_of_few(items(rows), values, n, found)
        return found
    keys, known, rank = values.view(np.int64), full(rows, 0, "int64"), full(rows, n, "int64")
    table = empty((rows, chunks_of(values.shape[1]), VALUES), "int64")
    _to_keys(items(values.size), keys)
    for shift in range(64 - DIGIT, LAST[holds] - 1, -DIGIT):
        seen = 0 if shift + DIGIT == 64 else -(1 << (shift + DIGIT))                  # the bits of all digits before
        _count(items(table.size // VALUES), keys, known, seen, shift, table)
        _descend(items(rows), table, shift, rank, known)
    _to_bits(items(rows), known)
    return known.view(np.float64)


@kernel("d2 i d1")
def _nth_of_few(values, n, found):
    length = values.shape[1]
    for r in range(cuda.grid(1), len(found), cuda.gridsize(1)):
        for i in range(length):
            own, before, equal = values[r, i], 0, 0
            for j in range(length):
                other = values[r, j]
                if above(other, own):
                    before += 1
                elif not above(own, other):
                    equal += 1
            if before <= n < before + equal:
                found[r] = own
                break


@kernel("i2")
def _to_keys(keys):
    """Bits of doubles become keys, in the same order if they are read as unsigned numbers; both zeros have the same."""
    length = keys.shape[1]
    for i in range(cuda.grid(1), len(keys) * length, cuda.gridsize(1)):
        bits = keys[i // length, i % length]
        size = bits & ~SIGN
        if size > INFINITY:                                         # no number
            keys[i // length, i % length] = MOST ^ SIGN
        else:
            keys[i // length, i % length] = (size if bits >= 0 else -size) ^ SIGN


@kernel("i2 i1 i i i3")
def _count(keys, known, seen, shift, table):
    """How often a chunk of a row has every value of a digit, among the keys that begin as is known."""
    rows, chunks, values = table.shape
    length = keys.shape[1]
    for i in range(cuda.grid(1), rows * chunks, cuda.gridsize(1)):
        r, c = i // chunks, i % chunks
        for d in range(values):
            table[r, c, d] = 0
        for at in range(c * length // chunks, (c + 1) * length // chunks):
            if keys[r, at] & seen == known[r]:
                table[r, c, (keys[r, at] >> shift) & (VALUES - 1)] += 1


@kernel("i3 i i1 i1")
def _descend(table, shift, rank, known):
    """The next digit of what is looked for, and its rank among those that share it."""
    rows, chunks, values = table.shape
    for r in range(cuda.grid(1), rows, cuda.gridsize(1)):
        d, before, here = values, 0, 0
        while d > 0 and before + here <= rank[r]:
            before += here
            here = 0
            d -= 1
            for c in range(chunks):
                here += table[r, c, d]
        rank[r] -= before
        known[r] |= np.int64(d) << shift


@kernel("i1")
def _to_bits(keys):
    """Keys become bits of doubles again."""
    for i in range(cuda.grid(1), len(keys), cuda.gridsize(1)):
        key = keys[i] ^ SIGN
        keys[i] = key if key >= 0 else -key ^ SIGN
