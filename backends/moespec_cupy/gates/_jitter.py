"""gates.jitter."""

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy.gates._elementwise import multiply


def forward(x, noise):
    admit("gates.jitter", x, noise)
    return multiply(x, noise), noise


def backward(noise, dy):
    return multiply(dy, noise)


IMPL = Impl(forward, backward)
