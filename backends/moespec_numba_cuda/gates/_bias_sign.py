"""gates.bias_sign, and with the mean of its update taken off gates.bias_centred."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import convert, empty, read
from moespec_numba_cuda._device import cuda, device
from moespec_numba_cuda._kernel import blocks, items, kernel


def forward(bias, counts, *, rate):
    admit("gates.bias_sign", bias, counts, rate=rate)
    return moved(bias, counts, rate, False), None


def moved(bias, counts, rate, centred):
    """The updated bias; computed in float64 and rounded once."""
    n, sums, updated = read(counts, "int64"), empty(2, "int64"), empty(bias.shape, "float64")
    add_up(blocks(1, 1), n, sums)
    _move(items(len(n)), read(bias, "float64"), n, sums, rate, centred, updated)
    return convert(updated, bias.dtype)


@device
def side(count, total, experts):
    """1 below the mean load, -1 above it; exact."""
    below = total - count * experts
    return (1 if below > 0 else 0) - (1 if below < 0 else 0)


@kernel("i1 i1")
def add_up(counts, sums):
    """The sum of the counts, and that of the sides; by one thread."""
    total, sides = 0, 0
    for e in range(len(counts)):
        total += counts[e]
    for e in range(len(counts)):
        sides += side(counts[e], total, len(counts))
    sums[0], sums[1] = total, sides


@kernel("d1 i1 i1 d b d1")
def _move(bias, counts, sums, rate, centred, updated):
    experts = len(counts)
    for e in range(cuda.grid(1), experts, cuda.gridsize(1)):
        mean = sums[1] / experts if centred else 0.0
        updated[e] = bias[e] + rate * (side(counts[e], sums[0], experts) - mean)


IMPL = Impl(forward)
