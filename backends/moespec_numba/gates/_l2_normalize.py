"""gates.l2_normalize."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read, zeros
from moespec_numba._vector import inner


class Saved(NamedTuple):
    x: np.ndarray           # N D
    norm: np.ndarray        # N or D
    how: tuple              # axis, scale, eps
    dtypes: tuple


def forward(x, scale=None, *, axis=1, eps=1e-6):
    OPS["gates.l2_normalize"].admit(x, scale, axis=axis, eps=eps)
    dtype = x.dtype if scale is None else np.result_type(x, scale)
    wide, how = read(x, dtype), (axis, dtype.type(1 if scale is None else scale), dtype.type(eps))
    norm, y = np.sqrt(_inner(wide, wide, axis)), empty(x.shape, x.dtype)
    _normalize(wide, read(norm), *how, y)
    return y, Saved(wide, read(norm), how, (x.dtype, None if scale is None else scale.dtype))


def backward(saved, dy):
    x, norm, (axis, scale, eps), (dtype, scale_dtype) = saved
    d, dx = read(dy, x.dtype), empty(x.shape, dtype)
    along = _inner(x, d, axis)
    _backward(x, norm, read(along), axis, scale, eps, d, dx)
    return dx, None if scale_dtype is None else (along / (norm + eps)).sum().astype(scale_dtype)


def _inner(a, b, axis):
    found = zeros(a.shape[1 - axis], a.dtype)
    _add_products(a, b, axis, found)
    return found


@kernel
def _add_products(a, b, axis, found):
    for i in range(len(a)):
        if axis == 1:
            found[i] = inner(a[i], b[i])
        else:
            for j in range(a.shape[1]):
                found[j] += a[i, j] * b[i, j]


@kernel
def _normalize(x, norm, axis, scale, eps, y):
    for i in range(len(x)):
        for j in range(x.shape[1]):
            y[i, j] = scale * (x[i, j] / (norm[i if axis == 1 else j] + eps))


@kernel
def _backward(x, norm, inner, axis, scale, eps, dy, dx):
    for i in range(len(x)):
        for j in range(x.shape[1]):
            at = i if axis == 1 else j
            unit = norm[at] + eps
            along = inner[at] / (norm[at] * unit) if norm[at] * unit != 0 else 0
            dx[i, j] = scale * ((dy[i, j] - x[i, j] * along) / unit)


IMPL = Impl(forward, backward)
