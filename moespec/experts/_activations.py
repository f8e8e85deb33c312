"""The activations by name, as `ffn` and `glu` apply them."""

from collections.abc import Callable
from typing import NamedTuple

from moespec.experts import _gelu, _gelu_tanh, _identity, _relu, _relu2, _silu


class Activation(NamedTuple):
    """An activation and its derivative, both on arrays in the accumulation dtype."""

    value: Callable
    slope: Callable


ACTIVATIONS = {op.OP.short: Activation(op.value, op.slope) for op in (_identity, _relu, _relu2, _silu, _gelu, _gelu_tanh)}


def require_activation(name, activation, where):
    """Refuse an activation that nobody knows; `where` tells the shape of an input."""
    if activation not in ACTIVATIONS:
        raise ValueError(f"{name}: activation={activation!r} is not one of {', '.join(ACTIVATIONS)} ({where})")
