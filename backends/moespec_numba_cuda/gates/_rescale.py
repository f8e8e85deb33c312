"""gates.rescale."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arithmetic import scale


def forward(logits, *, factor):
    admit("gates.rescale", logits, factor=factor)
    return scale(logits, factor), factor


def backward(factor, dscaled):
    return scale(dscaled, factor)


IMPL = Impl(forward, backward)
