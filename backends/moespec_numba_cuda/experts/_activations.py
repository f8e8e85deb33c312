"""The activations of one number, by number; an activation of NaN is NaN, and of an infinity what IEEE arithmetic makes of the formula."""

from __future__ import annotations

from moespec_numba_cuda._device import device
from moespec_numba_cuda._math import erf, exp, tanh

IDENTITY, RELU, RELU2, SILU, GELU, GELU_TANH = range(6)
NUMBER = {"identity": IDENTITY, "relu": RELU, "relu2": RELU2, "silu": SILU, "gelu": GELU, "gelu_tanh": GELU_TANH}


@device
def sigmoid(x):
    """1 / (1 + e^-x), by an exponential that cannot overflow."""
    t = exp(-abs(x))
    return (1 if x >= 0 else t) / (1 + t)


@device
def value(kind, x):
    """f(x)."""
    if kind == SILU:
        return x * sigmoid(x)
    if kind == GELU_TANH:
        return x * (1 + _tanh_of_gelu(x)) / 2
    if kind == GELU:
        return x * _normal(x)
    if kind == RELU:
        return 0.0 if x <= 0 else x
    if kind == RELU2:
        return 0.0 if x <= 0 else x * x
    return x


@device
def slope(kind, x):
    """f'(x); at a kink 0."""
    if kind == SILU:
        s = sigmoid(x)
        return s * (1 + x * (1 - s))
    if kind == GELU_TANH:
        t = _tanh_of_gelu(x)
        return (1 + t) / 2 + x * (1 - t * t) * (0.7978845608028654 * (1 + 0.134145 * (x * x))) / 2
    if kind == GELU:
        return _normal(x) + x * (0.3989422804014327 * exp(-(x * x) / 2))
    if kind == RELU:
        return 1.0 if x > 0 else 0.0
    if kind == RELU2:
        return 0.0 if x <= 0 else x + x
    return 1.0


@device
def _tanh_of_gelu(x):
    return tanh(0.7978845608028654 * (x + 0.044715 * (x * x * x)))


@device
def _normal(x):
    return (1 + erf(x * 0.7071067811865476)) / 2
