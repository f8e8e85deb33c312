"""gates.rms_norm."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, REORDER, empty, kernel, read, zeros


class Saved(NamedTuple):
    x: np.ndarray           # T D
    pre: np.ndarray         # D   what a row is multiplied by before it is divided; 1 where the scale acts behind
    post: np.ndarray        # D   and behind
    inverse: np.ndarray     # T   1 / rms
    factor: float
    before: bool
    dtypes: tuple


def forward(x, scale=None, *, eps=1e-6, factor=1.0, offset=0.0, before=False):
    dims = OPS["gates.rms_norm"].admit(x, scale, eps=eps, factor=factor, offset=offset, before=before)
    dtype = x.dtype if scale is None else np.result_type(x, scale)
    one = np.ones(dims.D, dtype)
    gain = one if scale is None else scale.astype(dtype) + dtype.type(offset)
    pre, post = (gain, one) if before else (one, gain)
    inverse, y = empty(dims.T, dtype), empty(x.shape, x.dtype)
    saved = Saved(read(x, dtype), read(pre), read(post), inverse, dtype.type(factor), before, (x.dtype, None if scale is None else scale.dtype))
    _forward(*saved[:3], dtype.type(eps), saved.factor, inverse, y)
    return y, saved._replace(inverse=read(inverse))


def backward(saved, dy):
    dx, dscale = empty(dy.shape, saved.dtypes[0]), zeros(saved.pre.shape, saved.x.dtype)
    _backward(*saved[:6], read(dy, saved.x.dtype), dx, dscale)
    return dx, None if saved.dtypes[1] is None else dscale.astype(saved.dtypes[1], copy=False)


@kernel
def _forward(x, pre, post, eps, factor, inverse, y):
    one, width = x.dtype.type(1), x.dtype.type(x.shape[1])
    for t in range(len(x)):
        inverse[t] = one / np.sqrt(_square(x[t], pre) / width + eps)
        for i in range(len(pre)):
            y[t, i] = x[t, i] * pre[i] * inverse[t] * factor * post[i]


@kernel(fastmath=REORDER, entry=False)
def _square(x, pre):
    total = x.dtype.type(0)
    for i in range(len(x)):
        total += (x[i] * pre[i]) * (x[i] * pre[i])
    return total


@kernel
def _backward(x, pre, post, inverse, factor, before, dy, dx, dscale):
    width = x.dtype.type(x.shape[1])
    for t in range(len(x)):
        r = inverse[t]
        along = r * r * (_product(dy[t], factor, post, x[t], pre) / width)
        for i in range(len(pre)):
            d = r * (dy[t, i] * factor * post[i] - x[t, i] * pre[i] * along)
            dx[t, i] = d * pre[i]
            dscale[i] += d * x[t, i] if before else dy[t, i] * factor * x[t, i] * r


@kernel(fastmath=REORDER, entry=False)
def _product(dy, factor, post, x, pre):
    total = x.dtype.type(0)
    for i in range(len(x)):
        total += dy[i] * factor * post[i] * (x[i] * pre[i])
    return total


IMPL = Impl(forward, backward)
