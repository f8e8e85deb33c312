"""gates.add_noise."""

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy.gates._elementwise import add


def forward(logits, noise, *, scale=1.0):
    admit("gates.add_noise", logits, noise, scale=scale)
    return add(logits, noise, scale), None


def backward(saved, dnoisy):
    return dnoisy.copy()


IMPL = Impl(forward, backward)
