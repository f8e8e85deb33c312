"""losses.communication_balance."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import read
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda._rows import legal
from moespec_numba_cuda.losses._balance import coefficients, valid, weigh_means, weigh_means_backward
from moespec_numba_cuda.losses._choices import choice_table
from moespec_numba_cuda.losses._mean import counts, sum_chunks


def forward(probs, indices, mask=None, *, devices, limit):
    dims = admit("losses.communication_balance", probs, indices, mask, devices=devices, limit=limit)
    mask, counted = valid(mask, dims.T)
    ids, size = read(indices, "int64"), dims.E // devices
    received = choice_table(ids, dims.E)
    _receive(items(len(received)), ids, mask, size, received)
    coefficient = coefficients(sum_chunks(received), counted, scale=devices, per=limit, together=size)
    return weigh_means(probs, coefficient, mask, counted)


@kernel("i2 b1 i d2")
def _receive(ids, mask, size, received):
    """A token counts once for a device of so many experts: at the first of its experts there."""
    parts, experts, tokens = received.shape[0], received.shape[1], ids.shape[0]
    for c in range(cuda.grid(1), parts, cuda.gridsize(1)):
        for t in range(c * tokens // parts, (c + 1) * tokens // parts):
            for j in range(ids.shape[1] if counts(mask, t) else 0):
                e = legal(ids[t, j], experts)
                new = e >= 0
                for before in range(j):
                    other = legal(ids[t, before], experts)
                    if other >= 0 and other // size == e // size:
                        new = False
                if new:
                    received[c, e] += 1


IMPL = Impl(forward, weigh_means_backward)
