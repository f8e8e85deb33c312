"""The activations on one row, by number; an activation of NaN is NaN, and of an infinity what IEEE arithmetic makes of the formula."""

import math

from moespec_numba._exp import exp_down
from moespec_numba._kernel import CONTRACT, kernel

IDENTITY, RELU, RELU2, SILU, GELU, GELU_TANH = range(6)
NUMBER = {"identity": IDENTITY, "relu": RELU, "relu2": RELU2, "silu": SILU, "gelu": GELU, "gelu_tanh": GELU_TANH}


@kernel(fastmath=CONTRACT, entry=False)
def sigmoid(x):
    """1 / (1 + e^-x), by an exponential that cannot overflow."""
    one, t = type(x)(1), exp_down(-abs(x))
    return (one if x >= 0 else t) / (one + t)


@kernel(fastmath=CONTRACT, entry=False)
def value(kind, x, y):
    """y = f(x)."""
    zero, one, half = x.dtype.type(0), x.dtype.type(1), x.dtype.type(0.5)
    if kind == SILU:
        for j in range(len(x)):
            y[j] = x[j] * sigmoid(x[j])
    elif kind == GELU_TANH:
        for j in range(len(x)):
            y[j] = half * x[j] * (one + _tanh_of_gelu(x[j]))
    elif kind == GELU:
        for j in range(len(x)):
            y[j] = x[j] * _normal(x[j])
    elif kind == RELU:
        for j in range(len(x)):
            y[j] = zero if x[j] <= zero else x[j]
    elif kind == RELU2:
        for j in range(len(x)):
            y[j] = zero if x[j] <= zero else x[j] * x[j]
    else:
        for j in range(len(x)):
            y[j] = x[j]


@kernel(fastmath=CONTRACT, entry=False)
def value_and_slope(kind, x, y, slope):
    """y = f(x), slope = f'(x); at a kink the slope is 0."""
    zero, one, half = x.dtype.type(0), x.dtype.type(1), x.dtype.type(0.5)
    if kind == SILU:
        for j in range(len(x)):
            s = sigmoid(x[j])
            y[j], slope[j] = x[j] * s, s * (one + x[j] * (one - s))
    elif kind == GELU_TANH:
        scale, cubic = x.dtype.type(0.7978845608028654), x.dtype.type(3 * 0.044715)
        for j in range(len(x)):
            t = _tanh_of_gelu(x[j])
            y[j] = half * x[j] * (one + t)
            slope[j] = half * (one + t) + half * x[j] * (one - t * t) * (scale * (one + cubic * (x[j] * x[j])))
    elif kind == GELU:
        density = x.dtype.type(0.3989422804014327)
        for j in range(len(x)):
            p = _normal(x[j])
            y[j], slope[j] = x[j] * p, p + x[j] * (density * exp_down(-half * (x[j] * x[j])))
    elif kind == RELU:
        for j in range(len(x)):
            y[j], slope[j] = zero if x[j] <= zero else x[j], one if x[j] > zero else zero
    elif kind == RELU2:
        for j in range(len(x)):
            y[j], slope[j] = zero if x[j] <= zero else x[j] * x[j], zero if x[j] <= zero else x[j] + x[j]
    else:
        for j in range(len(x)):
            y[j], slope[j] = x[j], one


@kernel(fastmath=CONTRACT, entry=False)
def _tanh_of_gelu(x):
    """By an exponential, with absolute accuracy, which is what an activation needs."""
    z = type(x)(0.7978845608028654) * (x + type(x)(0.044715) * (x * x * x))
    t = exp_down(-abs(z + z))
    size = (type(x)(1) - t) / (type(x)(1) + t)
    return size if z >= 0 else -size


@kernel(entry=False)
def _normal(x):
    return type(x)(0.5) * (type(x)(1) + math.erf(x * type(x)(0.7071067811865476)))
