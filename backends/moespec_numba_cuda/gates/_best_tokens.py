"""The best tokens of every expert, which batchwise and expert choice share.

A block takes the column of an expert in a group.  It finds the key of the last one taken, digit by digit: how many have every next digit,
of those that agree in the digits before; then it marks what is above that key, and of what is equal to it the earliest.
"""

from __future__ import annotations

import numpy as np

from moespec_numba_cuda._arrays import empty, full
from moespec_numba_cuda._device import SIMULATED, cuda
from moespec_numba_cuda._kernel import Kernel, blocks, items, kernel
from moespec_numba_cuda.gates._by_group import by_group

THREADS = 2 if SIMULATED else 128       # of a block
BITS = 4                                # of a digit
DIGITS = 1 << BITS


def best_tokens(scores, most, group=None):
    """int64[T, E]: column i holds i at the `most` best tokens of every group, ties to the earlier token, and -1 elsewhere."""
    (tokens, experts), groups = scores.shape, by_group(group, scores.shape[0])
    keys, ids = empty((experts, tokens), "int64"), full(scores.shape, -1, "int64")
    bits, infinity = 8 * scores.dtype.itemsize, np.array(np.inf, scores.dtype)
    integer = f"int{bits}"
    KEYS[bits](items(keys.size), scores.view(integer), groups.order, int(np.iinfo(integer).max), int(infinity.view(integer)), keys)
    _mark(blocks(experts * groups.most, THREADS), keys, *groups, most, bits - BITS, ids)
    return ids


def _keys(scores, order, magnitude, infinity, keys):
    """Of the bits of scores, as whole numbers in the normative order: NaN is one above infinity, and both zeros are 0."""
    experts, tokens = keys.shape
    for i in range(cuda.grid(1), experts * tokens, cuda.gridsize(1)):
        e, at = i // tokens, i % tokens
        if order[at] >= 0:
            bits = np.int64(scores[order[at], e])
            key = bits & magnitude
            keys[e, at] = infinity + 1 if key > infinity else key if bits >= 0 else -key


KEYS = {32: Kernel(_keys, "j2 i1 i i i2"), 64: Kernel(_keys, "i2 i1 i i i2")}


@kernel("i2 i1 i1 i i i2")
def _mark(keys, order, starts, most, top, ids):
    part = cuda.shared.array((THREADS, DIGITS), keys.dtype)
    whole = cuda.shared.array(DIGITS, keys.dtype)
    ties = cuda.shared.array(THREADS, keys.dtype)
    me, experts = cuda.threadIdx.x, len(keys)
    for b in range(cuda.blockIdx.x, experts * (len(starts) - 1), cuda.gridDim.x):
        e, first, stop = b % experts, starts[b // experts], starts[b // experts + 1]
        count, last, room = stop - first, np.int64(0), most                 # the key so far; how many of those that begin so are taken
        if 0 < most < count:                                                # the same in all threads
            for shift in range(top, -1, -BITS):
                sign = DIGITS // 2 if shift == top else 0                   # the first digit has the sign
                for d in range(DIGITS):
                    part[me, d] = 0
                for i in range(first + me, stop, THREADS):
                    key = keys[e, i]
                    if shift == top or key >> (shift + BITS) == last:
                        part[me, (key >> shift) & (DIGITS - 1) ^ sign] += 1
                cuda.syncthreads()
                for d in range(me, DIGITS, THREADS):
                    whole[d] = 0
                    for other in range(THREADS):
                        whole[d] += part[other, d]
                cuda.syncthreads()
                d = DIGITS - 1
                while whole[d] < room:
                    room -= whole[d]
                    d -= 1
                last = last * DIGITS + d - sign
            begin, end = first + me * count // THREADS, first + (me + 1) * count // THREADS
            ties[me] = 0
            for i in range(begin, end):
                if keys[e, i] == last:
                    ties[me] += 1
            cuda.syncthreads()
            for other in range(me):
                room -= ties[other]
            for i in range(begin, end):
                tie = keys[e, i] == last
                if keys[e, i] > last or (tie and room > 0):
                    ids[order[i], e] = e
                if tie:
                    room -= 1
        elif most > 0:
            for i in range(first + me, stop, THREADS):
                ids[order[i], e] = e
