"""gates.bias_centred."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda.gates._bias_sign import moved


def forward(bias, counts, *, rate):
    admit("gates.bias_centred", bias, counts, rate=rate)
    return moved(bias, counts, rate, True), None


IMPL = Impl(forward)
