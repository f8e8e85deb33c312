"""exp and log1p as vector code: where Numba finds no vector library it calls the scalar one for every element.

exp(x) = 2^n exp(r) with n the integer nearest to x / ln 2, which appears in the low bits of x / ln 2 + 1.5 * 2^m (m = bits of the
mantissa), and a Taylor polynomial of exp on abs(r) <= ln(2) / 2.  Nothing here is a branch or a conversion, so loops over it vectorise.
The fastmath flags of a caller must not reach it: reassociation would cancel the rounding to n.
"""

import numpy as np
from numba import types
from numba.extending import overload

from moespec_numba._kernel import kernel

LOG2E, HIGH, LOW = 1.4426950408889634, 0.6931471803691238, 1.9082149292705877e-10
LOG2E_32, HIGH_32, LOW_32 = map(np.float32, (LOG2E, 0.693359375, -2.12194440e-4))     # the high part times an n of 8 bits is exact
SHIFT, SHIFT_32 = 1.5 * 2**52, np.float32(1.5 * 2**23)
LEAST, LEAST_32 = -708.39, np.float32(-87.336)
TAYLOR = tuple(1 / f for f in (6227020800, 479001600, 39916800, 3628800, 362880, 40320, 5040, 720, 120, 24, 6, 2))
TAYLOR_32 = tuple(map(np.float32, TAYLOR[6:]))
ARTANH = tuple(2 / n for n in range(33, 1, -2))
ARTANH_32 = tuple(map(np.float32, ARTANH[8:]))


def exp_down(x):
    """exp(x) for x <= 0 or NaN, within 2 units; what would be subnormal is 0."""
    raise NotImplementedError("inside kernels only")


def log1p_unit(x):
    """log(1 + x) for 0 <= x <= 1 or NaN: 2 artanh(s) with s = x / (2 + x), whose series is in squares of at most 1/9.

    2 s = x - s x: written so, the roundings of s weigh less.
    """
    raise NotImplementedError("inside kernels only")


@overload(exp_down)
def _exp_down(x):
    return {types.float32: lambda x: _exp_32(x), types.float64: lambda x: _exp_64(x)}.get(x)


@overload(log1p_unit)
def _log1p_unit(x):
    return {types.float32: lambda x: _log1p(x, x / (np.float32(2) + x), ARTANH_32[::2], ARTANH_32[1::2]),
            types.float64: lambda x: _log1p(x, x / (2.0 + x), ARTANH[::2], ARTANH[1::2])}.get(x)


@kernel(entry=False)
def _exp_32(x):
    shifted = x * LOG2E_32 + SHIFT_32
    n = shifted - SHIFT_32
    r = x - n * HIGH_32 - n * LOW_32
    power = np.int32((np.float32(shifted).view(np.int32) << 23) + (127 << 23)).view(np.float32)
    return np.float32(0) if x < LEAST_32 else (_series(r, TAYLOR_32) * r * r + r + np.float32(1)) * power


@kernel(entry=False)
def _exp_64(x):
    shifted = x * LOG2E + SHIFT
    n = shifted - SHIFT
    r = x - n * HIGH - n * LOW
    power = np.int64((np.float64(shifted).view(np.int64) << 52) + (1023 << 52)).view(np.float64)
    return 0.0 if x < LEAST else (_series(r, TAYLOR) * r * r + r + 1.0) * power


@kernel(entry=False)
def _log1p(x, s, odd, even):
    z = s * s
    return x - s * (x - z * (_series(z * z, odd) * z + _series(z * z, even)))


@kernel(entry=False)
def _series(x, coefficients):
    """Horner's rule, the highest power first."""
    y = coefficients[0]
    for c in coefficients[1:]:
        y = y * x + c
    return y
