"""gates.bias_centred."""

from moespec.program import Impl
from moespec_numba._kernel import OPS
from moespec_numba.gates._bias_sign import moved


def forward(bias, counts, *, rate):
    OPS["gates.bias_centred"].admit(bias, counts, rate=rate)
    return moved(bias, counts, rate, True), None


IMPL = Impl(forward)
