"""The error rules of every NumPy function that a reference op may use (ids R1-R6 of docs/numerics.md)."""

from __future__ import annotations

import math

import numpy as np

from moespec.pairs import FUNCTIONS, LIBRARY, UFUNCS, Pair, current, growth, pair, settle


def _label(*pairs):
    return np.result_type(*(p.dtype for p in pairs))


def rounded(v, e, dtype, units=1.0):
    """One rounding of `units` on top of the propagated error `e`."""
    p = current()
    return settle(v, e + units * p.unit * np.abs(v) + p.floor, dtype)


def _add(a, b):
    # R1: charged on the operands, so any shift, split or reordering (x - max, x - lse, 1 - s) is covered.
    return settle(a.v + b.v, a.e + b.e + _charge(a, b), _label(a, b))


def _subtract(a, b):
    return settle(a.v - b.v, a.e + b.e + _charge(a, b), _label(a, b))


def _charge(a, b):
    exact = (a.v == 0) | (b.v == 0)                   # x + 0 is x in any order
    return np.where(exact, 0.0, current().unit * (np.abs(a.v) + np.abs(b.v)))


def _multiply(a, b):
    e = _times(np.abs(a.v), b.e) + _times(np.abs(b.v), a.e) + _times(a.e, b.e)
    v = a.v * b.v
    return settle(v, e, _label(a, b)) if _power_of_two(a) or _power_of_two(b) else rounded(v, e, _label(a, b))


def _times(a, b):
    return np.where((a == 0) | (b == 0), 0.0, a * b)      # 0 * inf in the error arithmetic is 0


def _power_of_two(x):
    return x.ndim == 0 and math.isfinite(x.v) and abs(math.frexp(float(x.v))[0]) == 0.5     # an exact product


def _divide(a, b):
    y = a.v / b.v
    room = np.abs(b.v) - b.e                          # the 2 admits multiplication by a reciprocal
    return rounded(y, np.where(room > 0, (a.e + np.abs(y) * b.e) / np.where(room > 0, room, 1), np.inf), _label(a, b), 2)


def _exp(a):
    y = np.exp(a.v)                                   # unit * |a|: exp2(a * log2 e) rounds its argument
    away = np.where(np.isfinite(a.v), np.expm1(a.e + current().unit * np.abs(a.v)), 0.0)
    return rounded(y, _times(y, away), a.dtype, LIBRARY)


def _expm1(a):
    y = np.expm1(a.v)
    away = np.where(np.isfinite(a.v), np.expm1(a.e + current().unit * np.abs(a.v)), 0.0)
    return rounded(y, _times(np.exp(a.v), away), a.dtype, LIBRARY)


def _log(a):
    room = a.v - a.e
    return rounded(np.log(a.v), np.where(a.e == 0, 0.0, np.where(room > 0, a.e / np.where(room > 0, room, 1), np.inf)),
                   a.dtype, LIBRARY)


def _log1p(a):
    room = 1 + a.v - a.e
    return rounded(np.log1p(a.v), np.where(room > 0, a.e / np.where(room > 0, room, 1), np.inf), a.dtype, LIBRARY)


def _sqrt(a):
    y = np.sqrt(a.v)
    return rounded(y, np.minimum(a.e / np.maximum(y, 1e-300), np.sqrt(a.e)), a.dtype, 2)


def _power(a, b):
    """R3: of a pair that is not negative, to a number; unit * |b log a|: exp(b log a) rounds its argument."""
    y = np.power(a.v, b.v)
    ends = np.power(np.maximum(a.v - a.e, 0), b.v), np.power(a.v + a.e, b.v)
    argument = np.where((y == 0) | (b.v == 1), 0.0, np.abs(b.v * np.log(a.v)) * y)
    return rounded(y, np.maximum(*(np.abs(end - y) for end in ends)) + current().unit * argument, a.dtype, LIBRARY)


def _saturating(name, slope):
    """R3: absolute accuracy for a function with range about 1; the slope is taken at the worst of three points."""
    def rule(a):
        from scipy import special
        f = getattr(np, name, None) or getattr(special, name)
        steepest = np.maximum(np.maximum(slope(a.v - a.e), slope(a.v)), slope(a.v + a.e))
        return settle(f(a.v), _times(a.e, steepest) + LIBRARY * current().unit + current().floor, a.dtype)
    return rule


def _same(function):
    return lambda a: settle(function(a.v), a.e, a.dtype)


def _compare(function):
    def rule(a, b):                                   # R6: either answer is right where the intervals meet
        close = (np.abs(a.v - b.v) <= a.e + b.e) & (a.e + b.e > 0)
        return Pair(function(a.v, b.v), close, "bool")
    return rule


def _logic(function):
    return lambda *a: Pair(function(*(x.v.astype(bool) for x in a)), np.maximum.reduce([x.e for x in a]), "bool")


def _matmul(a, b):
    if a.ndim > 2 or b.ndim > 2:
        raise TypeError(f"no error rule for matmul of {a.shape} and {b.shape}: two dimensions at most")
    p, n = current(), a.shape[-1]
    left, right = np.abs(a.v), np.abs(b.v)
    both = left @ right
    e = left @ b.e + a.e @ right + a.e @ b.e + p.unit_acc * growth(n) * both + n * p.floor * (both > 0)
    return settle(a.v @ b.v, e, _label(a, b))


def _einsum(spec, a, b):
    a, b, p = pair(a), pair(b), current()
    left, right = np.abs(a.v), np.abs(b.v)
    terms = np.einsum(spec, (a.v != 0).astype(float), (b.v != 0).astype(float))
    both = np.einsum(spec, left, right)
    e = np.einsum(spec, left, b.e) + np.einsum(spec, a.e, right + b.e)
    return settle(np.einsum(spec, a.v, b.v), e + p.unit_acc * growth(terms) * both + terms * p.floor, _label(a, b))


def _where(condition, x, y):
    c, x, y = pair(condition), pair(x), pair(y)
    chosen = c.v.astype(bool)
    e = np.where(chosen, x.e, y.e)
    unsure = np.broadcast_to(c.e > 0, np.broadcast_shapes(c.shape, x.shape, y.shape))
    v = np.where(chosen, x.v, y.v)
    return settle(v, np.where(unsure, np.maximum(x.e, y.e) + np.abs(x.v - y.v), e), _label(x, y))


def _both(function):
    """Functions that only move entries: the value and its error move alike."""
    def rule(a, *args, **kwargs):
        return a.like(function(a.v, *args, **kwargs), function(a.e, *args, **kwargs))
    return rule


def _joined(function):
    def rule(parts, *args, **kwargs):
        parts = [pair(x) for x in parts]
        return Pair(function([x.v for x in parts], *args, **kwargs), function([x.e for x in parts], *args, **kwargs), _label(*parts))
    return rule


def _extreme(function):
    def rule(a, b):
        return settle(function(a.v, b.v), np.maximum(a.e, b.e), _label(a, b))
    return rule


def _sort(a, axis=-1):
    """An order statistic moves by at most the largest of the errors."""
    return a.like(np.sort(a.v, axis=axis), np.broadcast_to(a.e.max(axis=axis, keepdims=True, initial=0.0), a.shape))


def _clip(a, low, high):
    return a.like(np.clip(a.v, low, high), a.e)


UFUNCS |= {
    "add": _add, "subtract": _subtract, "multiply": _multiply, "divide": _divide, "matmul": _matmul,
    "exp": _exp, "expm1": _expm1, "log": _log, "log1p": _log1p, "sqrt": _sqrt, "power": _power, "square": lambda a: _multiply(a, a),
    "tanh": _saturating("tanh", lambda x: 1 / np.cosh(np.clip(x, -300, 300)) ** 2),
    "erf": _saturating("erf", lambda x: 2 / np.sqrt(np.pi) * np.exp(-x * x)),
    "expit": _saturating("expit", lambda x: 1 / (4 * np.cosh(np.clip(x / 2, -300, 300)) ** 2)),
    "ndtr": _saturating("ndtr", lambda x: np.exp(-x * x / 2) / np.sqrt(2 * np.pi)),
    "negative": _same(np.negative), "positive": _same(np.positive), "absolute": _same(np.abs),
    "maximum": _extreme(np.maximum), "minimum": _extreme(np.minimum),
    "greater": _compare(np.greater), "greater_equal": _compare(np.greater_equal),
    "less": _compare(np.less), "less_equal": _compare(np.less_equal),
    "equal": _compare(np.equal), "not_equal": _compare(np.not_equal),
    "bitwise_and": _logic(np.logical_and), "bitwise_or": _logic(np.logical_or), "invert": _logic(np.logical_not),
    "isnan": lambda a: np.isnan(a.v), "isfinite": lambda a: np.isfinite(a.v), "isinf": lambda a: np.isinf(a.v),
}

MOVES = (np.take_along_axis, np.take, np.transpose, np.swapaxes, np.moveaxis, np.reshape, np.ravel,
         np.broadcast_to, np.expand_dims, np.squeeze, np.repeat, np.tile, np.flip)
FUNCTIONS.update({f: _both(f) for f in MOVES})
FUNCTIONS |= {
    np.where: _where, np.clip: _clip, np.sort: _sort, np.einsum: _einsum,
    np.sum: lambda a, axis=None, keepdims=False: a.sum(axis, keepdims),
    np.mean: lambda a, axis=None, keepdims=False: a.mean(axis, keepdims),
    np.cumsum: lambda a, axis=None: a.accumulate(lambda v: np.cumsum(v, axis=axis)),
    np.max: lambda a, axis=None, keepdims=False: a.max(axis, keepdims),
    np.min: lambda a, axis=None, keepdims=False: a.min(axis, keepdims),
    np.concatenate: _joined(np.concatenate), np.stack: _joined(np.stack),
    np.zeros_like: lambda a, **_: np.zeros(a.shape), np.shape: lambda a: a.shape,
}
