"""gates.linear: small products by NumPy, others as those of one expert."""

from typing import NamedTuple

import numpy as np

from moespec.op import wider
from moespec.program import Impl
from moespec_numba._kernel import OPS
from moespec_numba._products import grouped, grouped_backward


class Saved(NamedTuple):
    x: np.ndarray           # T D
    w: np.ndarray           # D E
    bias: np.dtype | None


def forward(x, w, b=None, *, dtype="float32"):
    OPS["gates.linear"].admit(x, w, b, dtype=dtype)
    out = wider(x.dtype, dtype)
    wide = wider(w.dtype, out)
    a, m = x.astype(wide, copy=False), w.astype(wide, copy=False)
    logits = a @ m if _small(a, m) else grouped(a, m[None], _all(a))
    if b is not None:
        logits = logits + b
    return logits.astype(out, copy=False), Saved(x, w, None if b is None else b.dtype)


def backward(saved, dlogits):
    x, w, bias = saved
    wide = np.result_type(x, w, dlogits)
    a, m, d = (array.astype(wide, copy=False) for array in (x, w, dlogits))
    dx, dw = (d @ m.T, a.T @ d) if _small(a, m) else grouped_backward(d, m[None], a, _all(a))
    db = None if bias is None else dlogits.sum(0).astype(bias, copy=False)
    return dx.astype(x.dtype, copy=False), dw.reshape(w.shape).astype(w.dtype, copy=False), db


def _small(x, w):
    """Whether BLAS would not use threads of its own, which stay awake for a while and compete with Numba's."""
    return x.size * w.shape[1] < 2**18


def _all(x):
    """All rows as those of one expert."""
    return np.array([0, len(x)])


IMPL = Impl(forward, backward)
