"""Refusals shared by the functions of this room: they name the function, the value and the limit."""

from __future__ import annotations

import operator

import ml_dtypes
import numpy as np

REALS = {d.name: d for d in map(np.dtype, ("float64", "float32", "float16", ml_dtypes.bfloat16))}
MOST = 2**62                # rows in all: sums of them are exact in int64


def count(name: str, what: str, value, *, least: int = 0) -> int:
    """`value` as a Python int that is at least `least`."""
    try:
        n = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: {what} must be an integer, got {value!r}") from None
    if n < least:
        raise ValueError(f"{name}: {what}={n} is below {least}")
    return n


def sizes(name: str, d_model, tokens, *, least: int = 0) -> tuple[int, int]:
    """The width of a layer and its tokens, at least `least` of them."""
    return count(name, "d_model", d_model, least=1), count(name, "tokens", tokens, least=least)


def real(name: str, dtype) -> np.dtype:
    """The dtype of tokens and parameters."""
    try:
        if dtype is not None:                   # which NumPy takes for float64
            return REALS[np.dtype(dtype).name]
    except (TypeError, KeyError):
        pass
    raise ValueError(f"{name}: dtype={dtype!r} is not one of {', '.join(REALS)}")


def counts_of(name: str, what: str, array, *, ndim: int) -> np.ndarray:
    """Integers that are at least 0 and add up to less than 2**62, as int64."""
    found = np.asarray(array)
    if found.ndim != ndim:
        raise ValueError(f"{name}: {what} has shape {found.shape}, wanted {ndim} dimensions")
    if found.dtype.kind not in "iu" and found.size:
        raise TypeError(f"{name}: {what} has dtype {found.dtype}, wanted an integer dtype (shape {found.shape})")
    if found.size and int(found.min()) < 0:
        raise ValueError(f"{name}: {what} holds {int(found.min())}, below 0 (shape {found.shape})")
    if (total := float(found.sum(dtype=np.float64))) >= MOST:
        raise ValueError(f"{name}: {what} adds up to {total:.3g}, above {MOST:.3g} (shape {found.shape})")
    return found.astype(np.int64)


def loads_of(name: str, routing, experts: int, classes: int | None = None) -> np.ndarray:
    """Rows per expert [E], from ids [T, K] (-1, and ids from E up to `classes`, are no expert's) or from the rows per expert themselves."""
    found = np.asarray(routing)
    if found.ndim != 2:
        rows = counts_of(name, "routing", found, ndim=1)
        if len(rows) != experts:
            raise ValueError(f"{name}: routing has shape {rows.shape}, wanted rows of {experts} experts")
        return rows
    last = (experts if classes is None else classes) - 1
    if found.dtype.kind not in "iu":
        raise TypeError(f"{name}: routing has dtype {found.dtype}, wanted an integer dtype (shape {found.shape})")
    if found.size and (found.min() < -1 or found.max() > last):
        raise ValueError(f"{name}: routing holds {found.max() if found.max() > last else found.min()}, outside -1 .. {last} (shape {found.shape})")
    return np.bincount(found[(found >= 0) & (found < experts)], minlength=experts)
