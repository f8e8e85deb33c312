"""gates.rms_norm."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, REORDER, empty, kernel, read, zeros


class Saved(NamedTuple):
    x: np.ndarray           # T D
    scale: np.ndarray       # D
    inverse: np.ndarray     # T   1 / rms
    factor: float
    dtypes: tuple


def forward(x, scale=None, *, eps=1e-6, factor=1.0):
    dims = OPS["gates.rms_norm"].admit(x, scale, eps=eps, factor=factor)
    dtype = x.dtype if scale is None else np.result_type(x, scale)
    g = np.ones(dims.D, dtype) if scale is None else scale
    inverse, y = empty(dims.T, dtype), empty(x.shape, x.dtype)
    saved = Saved(read(x, dtype), read(g, dtype), inverse, dtype.type(factor), (x.dtype, None if scale is None else scale.dtype))
    _forward(*saved[:2], dtype.type(eps), saved.factor, inverse, y)
    return y, saved._replace(inverse=read(inverse))


def backward(saved, dy):
    dx, dscale = empty(dy.shape, saved.dtypes[0]), zeros(saved.scale.shape, saved.x.dtype)
    _backward(*saved[:4], read(dy, saved.x.dtype), dx, dscale)
    return dx, None if saved.dtypes[1] is None else dscale.astype(saved.dtypes[1], copy=False)


@kernel(fastmath=REORDER)
def _forward(x, scale, eps, factor, inverse, y):
    one, width = x.dtype.type(1), x.dtype.type(x.shape[1])
    for t in range(len(x)):
        total = x.dtype.type(0)
        for i in range(len(scale)):
            total += x[t, i] * x[t, i]
        inverse[t] = one / np.sqrt(total / width + eps)
        for i in range(len(scale)):
            y[t, i] = x[t, i] * inverse[t] * factor * scale[i]


@kernel(fastmath=REORDER)
def _backward(x, scale, inverse, factor, dy, dx, dscale):
    width = x.dtype.type(x.shape[1])
    for t in range(len(x)):
        r, inner = inverse[t], x.dtype.type(0)
        for i in range(len(scale)):
            inner += dy[t, i] * factor * scale[i] * x[t, i]
        inner = r * r * (inner / width)
        for i in range(len(scale)):
            dx[t, i] = r * (dy[t, i] * factor * scale[i] - x[t, i] * inner)
            dscale[i] += dy[t, i] * factor * x[t, i] * r


IMPL = Impl(forward, backward)
