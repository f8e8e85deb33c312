"""The activations on one row, by number; an activation of NaN is NaN, and of an infinity what IEEE arithmetic makes of the formula."""

import math

import numpy as np
from numba import types
from numba.extending import overload

from moespec_numba._kernel import CONTRACT, kernel

IDENTITY, RELU, RELU2, SILU, GELU, GELU_TANH = range(6)
NUMBER = {"identity": IDENTITY, "relu": RELU, "relu2": RELU2, "silu": SILU, "gelu": GELU, "gelu_tanh": GELU_TANH}


def exp(x):
    """e^x inside a kernel; float32 by a polynomial, which the compiler turns into vector code."""
    raise NotImplementedError("exp is for kernels")


@overload(exp)
def _exp(x):
    return (lambda x: _exp32(x)) if x == types.float32 else (lambda x: math.exp(x))


@kernel(fastmath=CONTRACT, entry=False)
def _exp32(x):
    """2^n e^r with |r| <= log(2)/2: Cody and Waite's reduction, Cephes' polynomial (2 units in the last place).

    Exactly 0 and inf outside the range of float32; NaN stays NaN.
    """
    low, high = np.float32(-87.3), np.float32(88.7)
    c = x if x > low else low                      # NaN falls to `low`: what becomes an integer below must be a number
    c = c if c < high else high
    n = np.floor(c * np.float32(1.44269504) + np.float32(0.5))
    r = c - n * np.float32(0.693359375)
    r = r - n * np.float32(-2.12194440e-4)
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    p = p * (r * r) + r + np.float32(1)
    y = p * np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)
    y = np.float32(0) if x < low else y
    y = np.float32(np.inf) if x > high else y
    return y if x == x else x


@kernel(fastmath=CONTRACT, entry=False)
def value(kind, x, y):
    """y = f(x)."""
    zero, one, half = x.dtype.type(0), x.dtype.type(1), x.dtype.type(0.5)
    if kind == SILU:
        for j in range(len(x)):
            y[j] = x[j] / (one + exp(-x[j]))
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
            s = one / (one + exp(-x[j]))
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
            y[j], slope[j] = x[j] * p, p + x[j] * (density * exp(-half * (x[j] * x[j])))
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
    """By exp, with absolute accuracy, which is what an activation needs."""
    z = type(x)(2 * 0.7978845608028654) * (x + type(x)(0.044715) * (x * x * x))
    return type(x)(1) - type(x)(2) / (type(x)(1) + exp(z))


@kernel(entry=False)
def _normal(x):
    return type(x)(0.5) * (type(x)(1) + math.erf(x * type(x)(0.7071067811865476)))
