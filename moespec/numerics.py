"""The numeric contract: accumulation dtypes, and the few functions that need one careful definition (docs/numerics.md)."""

from __future__ import annotations

from functools import cache

import numpy as np

from moespec import pair_rules as _rules  # noqa: F401  (fills the table that Pair looks up)
from moespec.pairs import UNIT, WIDE, Pair, stored, value

__all__ = [
    "acc", "constant", "erf", "expit", "is_real", "logsumexp", "ndtr", "normal_pdf",
    "safe_divide", "sigmoid", "softmax", "softplus", "stored", "widen",
]


def acc(x):
    """The dtype that values like `x` (an array or a dtype) are computed and accumulated in: float32 at least."""
    return _acc(np.dtype(getattr(x, "dtype", x)))


@cache
def _acc(dtype):
    return np.dtype(WIDE.get(dtype.name, "float64"))


def widen(x):
    """`x` in its accumulation dtype; None stays None."""
    return None if x is None else x.astype(acc(x), copy=False)


def constant(c, like):
    """An exact number that a kernel computes with in the arithmetic of `like`: on pairs, what is made of it is charged."""
    return Pair(c, 0.0, like.dtype) if isinstance(like, Pair) else c


def is_real(dtype):
    """Whether `dtype` is one of the four floating dtypes of the specification."""
    return np.dtype(dtype).name in UNIT


def softmax(x, axis=-1, where=None):
    r"""Softmax along `axis` over the entries that `where` allows; a slice that has none is 0.

    .. math:: y_i = \exp(x_i - m) \big/ \sum_j \exp(x_j - m), \qquad m = \max_j x_j

    NaN and +inf spread over their slice (IEEE arithmetic of the formula); -inf gives 0 unless every entry is -inf.
    """
    if x.size == 0:
        return x
    if where is not None:
        x = np.where(where, x, -np.inf)
    top = x.max(axis=axis, keepdims=True)
    if where is not None:
        top = np.where(where.any(axis=axis, keepdims=True), top, 0.0)
    with np.errstate(all="ignore"):
        t = np.exp(x - top)
        total = t.sum(axis=axis, keepdims=True)
        if where is not None:
            total = np.where(where.any(axis=axis, keepdims=True), total, 1.0)
        return t / total


def logsumexp(x, axis=-1):
    """log(sum(exp(x))) along `axis`, which is dropped; -inf where every entry is -inf."""
    top = x.max(axis=axis, keepdims=True)
    with np.errstate(all="ignore"):
        shift = np.where(np.isfinite(top), value(top), 0.0)              # any number would do: its own error cancels
        return (np.log(np.exp(x - shift).sum(axis=axis, keepdims=True)) + shift).sum(axis=axis)


def sigmoid(x):
    """1 / (1 + exp(-x)), with full relative accuracy in both tails."""
    t = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + t), t / (1 + t))


def expit(x):
    """The logistic function as activations use it: held to absolute accuracy (R3), so that the tanh form is admitted."""
    if isinstance(x, Pair):
        from scipy import special
        return special.expit(x)
    with np.errstate(over="ignore"):                # exp(-x) = inf is right: the value is 0
        s = np.exp(-x)
    s += 1                                          # in place: fresh memory costs more than the arithmetic
    return np.divide(1, s, out=s)


def softplus(x):
    """log(1 + exp(x)), without overflow."""
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


def erf(x):
    """The error function."""
    from scipy import special
    return special.erf(x)


def ndtr(x):
    r"""The standard normal distribution function :math:`\Phi`."""
    from scipy import special
    return special.ndtr(x)


def normal_pdf(x):
    r"""The standard normal density :math:`\varphi = \Phi'`."""
    return np.exp(-0.5 * (x * x)) * 0.3989422804014327


def safe_divide(a, b, otherwise=0.0):
    """a / b, and `otherwise` where b is exactly 0."""
    zero = b == 0
    if isinstance(zero, Pair):
        zero = zero.v
    return np.where(zero, otherwise, a / np.where(zero, 1.0, b))
