"""What the fitting loops are given: checked once, and turned into columns of a design matrix."""

from __future__ import annotations

from itertools import combinations_with_replacement

import numpy as np

LIMIT = 1e100           # in size: squares and cubes of what is admitted are finite


def admit(name, x, y, classes=None, columns=None):
    """(x, y) in float64 (labels in int64); everything that would make a fit meaningless is refused by name."""
    x = reals(name, "x", x, columns)
    y = reals(name, "y", y) if classes is None else _labels(name, y, classes)
    if len(x) != len(y):
        raise ValueError(f"{name}: y has shape {y.shape}, but x has {len(x)} rows (shape {x.shape})")
    if not len(x):
        raise ValueError(f"{name}: no rows to fit (x has shape {x.shape})")
    return x, y


def reals(name, what, array, columns=None):
    """In float64; with `columns`, as many as a fit has seen."""
    array = np.asarray(array)
    if array.dtype.kind not in "fiu" or array.ndim != 2:
        raise ValueError(f"{name}: {what} must be real with 2 dimensions, got {array.dtype} with shape {array.shape}")
    if not array.shape[1] or columns not in (None, array.shape[1]):
        raise ValueError(f"{name}: {what} has shape {array.shape}, wanted {columns or 'at least 1'} columns")
    array = array.astype(np.float64)
    bad = np.argwhere(~(np.abs(array) <= LIMIT))
    if len(bad):
        row, column = bad[0]
        raise ValueError(f"{name}: {what} holds {array[row, column]} in row {row}, column {column} (shape {array.shape}), "
                         f"wanted numbers within {LIMIT:g}")
    return array


def _labels(name, y, classes):
    whole(name, classes=(classes, 1))
    y = np.asarray(y)
    if y.dtype.kind not in "iu" or y.ndim != 1:
        raise ValueError(f"{name}: labels must be integers with 1 dimension, got {y.dtype} with shape {y.shape}")
    if len(y) and not 0 <= y.min() <= y.max() < classes:
        raise ValueError(f"{name}: y holds {y.min()} .. {y.max()}, outside 0 .. {classes - 1} (shape {y.shape})")
    return y.astype(np.int64)


def whole(name, **limits):
    """Refuse what is not a whole number of at least its least value: whole("hme_em", degree=(degree, 0))."""
    for what, (value, least) in limits.items():
        if not isinstance(value, int | np.integer) or value < least:
            raise ValueError(f"{name}: {what}={value!r} must be a whole number, at least {least}")


def above_zero(name, **values):
    """Refuse what is not a positive, finite number."""
    for what, value in values.items():
        if not isinstance(value, int | float | np.integer | np.floating) or not 0 < value < np.inf:
            raise ValueError(f"{name}: {what}={value!r} must be above 0 and finite")


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
