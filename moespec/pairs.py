"""Running error analysis: arrays of (value, error) pairs that the reference ops run on unchanged.

A `Pair` holds a float64 value and an absolute bound on how far a correct kernel may be from it.  NumPy's own
functions and operators are overloaded, so an op that is written with plain NumPy yields, without a line of its own,
the bound that its result is judged by.  The rules are listed in docs/numerics.md; each is named here by its id there.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

UNIT = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}   # roundoff to nearest
# Added to every rounding: flushing subnormals is always allowed in float32 and bfloat16, never in float16.
FLOOR = {"float64": 2.0**-1022, "float32": 2.0**-126, "float16": 2.0**-24, "bfloat16": 2.0**-126}
WIDE = {"float64": "float64", "float32": "float32", "float16": "float32", "bfloat16": "float32"}
UFUNCS: dict[str, Callable] = {}                 # the rules, filled in by pair_rules
FUNCTIONS: dict[Callable, Callable] = {}
LIBRARY = 4.0     # units that exp, log, erf ... may be off; measured worst case over five libraries: 3.3


def growth(n):
    """The accumulation constant g(n): every summation order, and truncating tensor cores, stay below it."""
    return np.minimum(n, 8 + n / 4)


@dataclass
class Policy:
    """What the kernels under test may do: their arithmetic, and which intermediates they round (R7)."""

    unit: float = UNIT["float32"]
    unit_acc: float = UNIT["float32"]
    floor: float = FLOOR["float32"]
    stores: dict[str, str] = field(default_factory=dict)      # stored point -> dtype, replayed
    selections: list = field(default_factory=list)            # what indexing.select and indexing.decide saw


_policy = Policy()


@contextmanager
def policy(dtype, *, compute="float32", accumulate="float32", stores=None):
    """Judge kernels of `dtype`: arithmetic in `compute`, sums in `accumulate`, `stores` rounded on the way."""
    global _policy
    kept = _policy
    if dtype == "float64":
        compute = accumulate = "float64"
    compute = dtype if compute == "dtype" else compute
    accumulate = dtype if accumulate == "dtype" else accumulate
    _policy = Policy(UNIT[compute], UNIT[accumulate], FLOOR[compute], dict(stores or {}))
    try:
        yield _policy
    finally:
        _policy = kept


def current():
    """The policy in force."""
    return _policy


class Pair(np.lib.mixins.NDArrayOperatorsMixin):
    """A float64 value `v` with an absolute error bound `e`, labelled with the dtype that a kernel would hold."""

    def __init__(self, v, e=0.0, dtype="float64"):
        self.v = np.asarray(v)
        if self.v.dtype != bool:
            self.v = self.v.astype(np.float64, copy=False)
        e = np.asarray(e, np.float64)
        self.e = e if e.shape == self.v.shape else np.broadcast_to(e, self.v.shape)
        self.dtype = np.dtype(dtype)

    shape = property(lambda self: self.v.shape)
    ndim = property(lambda self: self.v.ndim)
    size = property(lambda self: self.v.size)
    T = property(lambda self: np.transpose(self))

    def __repr__(self):
        return f"Pair({self.v!r}, error={self.e!r}, dtype={self.dtype.name})"

    def __len__(self):
        return len(self.v)

    def __array__(self, dtype=None, copy=None):
        raise TypeError("a Pair cannot become an ndarray: that would drop its error bound")

    def __bool__(self):
        raise TypeError("a Pair has no truth value: branch on shapes or on integer arrays, or use np.where")

    def __getitem__(self, index):
        return Pair(self.v[index], self.e[index], self.dtype)

    def like(self, v, e):
        return Pair(v, e, self.dtype)

    def astype(self, dtype, copy=True):
        return Pair(self.v, self.e, dtype)          # rounding to the stated dtype is charged at the op's end (R8)

    def copy(self):
        return self

    def reshape(self, *shape):
        return self.like(self.v.reshape(*shape), self.e.reshape(*shape))

    def sum(self, axis=None, keepdims=False):
        return self.accumulate(lambda a: a.sum(axis=axis, keepdims=keepdims))

    def mean(self, axis=None, keepdims=False):
        total = self.sum(axis, keepdims)
        return total / (self.size / max(total.size, 1))

    def max(self, axis=None, keepdims=False):
        return self.like(self.v.max(axis=axis, keepdims=keepdims), self.e.max(axis=axis, keepdims=keepdims))

    def min(self, axis=None, keepdims=False):
        return self.like(self.v.min(axis=axis, keepdims=keepdims), self.e.max(axis=axis, keepdims=keepdims))

    def accumulate(self, linear):
        """R4: `linear` adds entries up (a sum, a scatter); n counts the terms that are not zero."""
        with np.errstate(all="ignore"):
            terms = linear(np.abs(self.v))
            n = linear((self.v != 0).astype(np.float64))
            return settle(linear(self.v), linear(self.e) + _policy.unit_acc * growth(n) * terms, self.dtype)

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        rule = UFUNCS.get(ufunc.__name__)
        if method != "__call__" or rule is None or kwargs:
            raise TypeError(f"no error rule for np.{ufunc.__name__} ({method}, {sorted(kwargs)}): see pair_rules.py")
        with np.errstate(all="ignore"):
            return rule(*map(pair, inputs))

    def __array_function__(self, function, types, args, kwargs):
        rule = FUNCTIONS.get(function)
        if rule is None:
            raise TypeError(f"no error rule for np.{function.__name__}: see pair_rules.py")
        with np.errstate(all="ignore"):
            return rule(*args, **kwargs)


def settle(v, e, dtype):
    """A pair whose error is 0 where the value is not finite (those are compared exactly), inf where it is unknown."""
    v, e = np.asarray(v), np.asarray(e)
    return Pair(v, np.where(np.isfinite(v), np.where(np.isnan(e), np.inf, e), 0.0), dtype)


def pair(x: Any) -> Pair:
    """`x` as a pair; a plain array or number is exact."""
    if isinstance(x, Pair):
        return x
    weak = isinstance(x, (bool, int, float)) or np.asarray(x).dtype.kind in "biu"
    return Pair(x, 0.0, "bool" if weak else np.asarray(x).dtype)     # bool: takes the dtype of whatever it meets


def value(x):
    """The value of a pair, or `x` itself."""
    return x.v if isinstance(x, Pair) else x


def round_to(v, dtype):
    """`v`, rounded to `dtype`, in float64."""
    with np.errstate(all="ignore"):
        return np.asarray(v).astype(dtype).astype(np.float64)


def stored(x, name):
    """Mark an intermediate that separate kernels hand to each other; the identity on arrays (R7, replay)."""
    if not isinstance(x, Pair) or name not in _policy.stores:
        return x
    return replay(x, _policy.stores[name])


def replay(x, dtype):
    """Round a pair as a kernel that stores `dtype` does: exactly where the whole interval rounds to one value (R7)."""
    if UNIT[np.dtype(dtype).name] <= _policy.unit:
        return x.astype(dtype)
    v = round_to(x.v, dtype)
    with np.errstate(all="ignore"):
        e = np.maximum(round_to(x.v + 2 * x.e, dtype) - v, v - round_to(x.v - 2 * x.e, dtype)) / 2
    return settle(v, e, dtype)


def bound(x, dtype):
    """How far an output of `dtype` may be from the value of `x` (R8): slack on what was propagated, none on the rounding."""
    name = np.dtype(dtype).name
    with np.errstate(all="ignore"):
        last = UNIT[name] * (np.abs(x.v) + 2 * x.e) if UNIT[name] > _policy.unit else 0.0
        return 2 * x.e + np.where(np.isfinite(x.v), last, 0.0) + FLOOR[name]
