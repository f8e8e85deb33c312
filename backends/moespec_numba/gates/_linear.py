"""gates.linear: BLAS by NumPy's matmul, whose products NumPy keeps in the wider of the two dtypes."""

from typing import NamedTuple

import numpy as np

from moespec.op import wider
from moespec.program import Impl
from moespec_numba._kernel import OPS


class Saved(NamedTuple):
    x: np.ndarray           # T D
    w: np.ndarray           # D E
    bias: np.dtype | None


def forward(x, w, b=None, *, dtype="float32"):
    OPS["gates.linear"].admit(x, w, b, dtype=dtype)
    out = wider(x.dtype, dtype)
    logits = x.astype(out, copy=False) @ w.astype(wider(w.dtype, out), copy=False)
    if b is not None:
        logits = logits + b
    return logits.astype(out, copy=False), Saved(x, w, None if b is None else b.dtype)


def backward(saved, dlogits):
    x, w, bias = saved
    db = None if bias is None else dlogits.sum(0).astype(bias, copy=False)
    return (dlogits @ w.T).astype(x.dtype, copy=False), (x.T @ dlogits).astype(w.dtype, copy=False), db


IMPL = Impl(forward, backward)
