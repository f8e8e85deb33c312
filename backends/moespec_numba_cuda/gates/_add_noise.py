"""gates.add_noise."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import common, empty, flat, like, read
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel


def forward(logits, noise, *, scale=1.0):
    admit("gates.add_noise", logits, noise, scale=scale)
    x, epsilon = common(logits, noise)
    noisy = empty(x.shape, x.dtype)
    _add(items(x.size), flat(x), flat(epsilon), scale, flat(noisy))
    return like(logits, noisy), logits.dtype


def backward(dtype, dnoisy):
    return read(dnoisy, dtype)


@kernel("T1 T1 T T1")
def _add(logits, noise, scale, noisy):
    for i in range(cuda.grid(1), len(logits), cuda.gridsize(1)):
        noisy[i] = logits[i] + scale * noise[i]


IMPL = Impl(forward, backward)
