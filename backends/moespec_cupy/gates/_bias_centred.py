"""gates.bias_centred."""

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy.gates._bias_sign import moved


def forward(bias, counts, *, rate):
    admit("gates.bias_centred", bias, counts, rate=rate)
    return moved(bias, counts, rate, True), None


IMPL = Impl(forward)
