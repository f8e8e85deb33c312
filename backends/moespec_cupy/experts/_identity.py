"""experts.identity."""

from moespec.program import Impl
from moespec_cupy._admit import admit


def forward(x):
    admit("experts.identity", x)
    return x, None


def backward(saved, dy):
    return dy


IMPL = Impl(forward, backward)
