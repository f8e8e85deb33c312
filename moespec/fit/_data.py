"""What the fitting loops are given: checked once, and turned into columns of a design matrix."""

from __future__ import annotations

from itertools import combinations_with_replacement

import numpy as np


def admit(name, x, y=None, classes=None):
    """(x, y) in float64 (labels in int64); everything that would make a fit meaningless is refused by name."""
    x = _reals(name, "x", x)
    if y is None:
        return x, None
    y = _reals(name, "y", y) if classes is None else _labels(name, y, classes)
    if len(x) != len(y):
        raise ValueError(f"{name}: y has shape {y.shape}, but x has {len(x)} rows (shape {x.shape})")
    if not len(x):
        raise ValueError(f"{name}: no rows to fit (x has shape {x.shape})")
    return x, y


def _reals(name, what, array):
    array = np.asarray(array)
    if array.dtype.kind not in "fiu" or array.ndim != 2:
        raise ValueError(f"{name}: {what} must be real with 2 dimensions, got {array.dtype} with shape {array.shape}")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        row, column = np.argwhere(~np.isfinite(array))[0]
        raise ValueError(f"{name}: {what} holds {array[row, column]} in row {row}, column {column} (shape {array.shape})")
    return array


def _labels(name, y, classes):
    y = np.asarray(y)
    if y.dtype.kind not in "iu" or y.ndim != 1:
        raise ValueError(f"{name}: labels must be integers with 1 dimension, got {y.dtype} with shape {y.shape}")
    if len(y) and not 0 <= y.min() <= y.max() < classes:
        raise ValueError(f"{name}: y holds {y.min()} .. {y.max()}, outside 0 .. {classes - 1} (shape {y.shape})")
    return y.astype(np.int64)


def at_least(name, **limits):
    """Refuse a number below its least value: at_least("hme_em", ridge=(ridge, 0))."""
    for what, (value, least) in limits.items():
        if not value >= least:
            raise ValueError(f"{name}: {what}={value} must be at least {least}")


def above_zero(name, **values):
    """Refuse what is not a positive number."""
    for what, value in values.items():
        if not value > 0:
            raise ValueError(f"{name}: {what}={value} must be above 0")


def design(x, degree=1):
    """[T, P]: every monomial of the columns up to `degree`, the constant first."""
    products = [np.ones(len(x))]
    for d in range(1, degree + 1):
        products += [x[:, list(of)].prod(1) for of in combinations_with_replacement(range(x.shape[1]), d)]
    return np.stack(products, axis=1)


def variance(y):
    """Of each column; 1 where a column is constant, so that it can be divided by."""
    v = y.var(axis=0)
    return np.where(v > 0, v, 1.0)
