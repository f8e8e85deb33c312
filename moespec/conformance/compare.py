"""Is a result within its bound?  NaN fails, shapes and dtypes are exact, choices are judged by margin."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from moespec.indexing import balanced_assignment, finite_scores, order_key
from moespec.pairs import FLOOR, bound, pair, round_to

VACUOUS = 0.1      # a bound above this share of the largest value says nothing
WEAK = 0.1         # a share of vacuous elements above this makes a check weak


class Mismatch(NamedTuple):
    """The first element that is wrong."""

    what: str
    at: tuple = ()
    got: object = None
    wanted: object = None
    bound: object = None

    def __str__(self):
        if not self.at and self.got is None:
            return self.what
        limit = "" if self.bound is None else f" (bound {self.bound:.3g})"
        return f"{self.what}[{', '.join(map(str, self.at))}]: got {self.got!r}, wanted {self.wanted!r}{limit}"


def same_form(name, got, shape, dtype):
    """Shape and dtype, exactly."""
    if not isinstance(got, np.ndarray | np.generic):
        return Mismatch(f"{name} is a {type(got).__name__}, not an array")
    if got.shape != tuple(shape):
        return Mismatch(f"{name} has shape {got.shape}, wanted {tuple(shape)}")
    if got.dtype != dtype:
        return Mismatch(f"{name} has dtype {got.dtype}, wanted {np.dtype(dtype)}")
    return None


def real(name, got, want, dtype, exact=False):
    """(mismatch or None, share of elements whose bound is vacuous) of a real array against a pair."""
    want = pair(want)
    wrong = same_form(name, got, want.shape, dtype)
    if wrong or got.size == 0:
        return wrong, 0.0
    g, rounded = got.astype(np.float64), round_to(want.v, dtype)
    limit = np.zeros(want.shape) if exact else bound(want, dtype)
    with np.errstate(all="ignore"):
        same = (g == rounded) | (np.isnan(g) & np.isnan(rounded))
        near = np.abs(g - want.v) <= limit
        ok = same | (near & np.isfinite(want.v)) if not exact else same
        largest = np.max(np.abs(np.where(np.isfinite(rounded), rounded, 0.0)))
        vacuous = ~(limit <= max(VACUOUS * largest, 4 * FLOOR[np.dtype(dtype).name])) & np.isfinite(want.v)
    share = float(vacuous.mean())
    if ok.all():
        return None, share
    first = tuple(int(i) for i in np.argwhere(~ok)[0])
    return Mismatch(name, first, float(g[first]), float(want.v[first]), float(limit[first])), share


def integers(name, got, want, dtype):
    """Index, count and mask arrays, exactly."""
    want = np.asarray(want)
    wrong = same_form(name, got, want.shape, dtype)
    if wrong or np.array_equal(got, want):
        return wrong
    first = tuple(int(i) for i in np.argwhere(got != want)[0])
    return Mismatch(name, first, got[first].item(), want[first].item())


def inadmissible(selections):
    """The first choice that no rounding explains, or None; and how many choices were within the margin."""
    unsure = 0
    judges = {"select": _selection, "decide": _decision, "assign": _assignment}
    for kind, scores, chosen, _ in selections:
        wrong, near = judges[kind](scores, np.asarray(chosen))
        unsure += near
        if wrong:
            return wrong, unsure
    return None, unsure


def _decision(condition, made):
    sure = condition.e == 0
    bad = sure & (made != condition.v.astype(bool))
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        return Mismatch("decision", first, bool(made[first]), bool(condition.v[first])), 0
    return None, int((~sure).sum())


def _assignment(scores, chosen):
    """Equal shares, and a total that no other assignment exceeds by more than the bounds of the scores."""
    tokens, experts = scores.shape
    ids = chosen[:, 0]
    if (np.bincount(ids[ids >= 0], minlength=experts) * experts != tokens).any():
        return Mismatch("assignment is not balanced", (), np.bincount(ids[ids >= 0], minlength=experts).tolist(), tokens // experts), 0
    best = balanced_assignment(scores.v)
    value = finite_scores(scores.v)
    total, most = (value[np.arange(tokens), i].sum() for i in (ids, best))
    slack = 2 * (np.abs(value).max(initial=0.0) * tokens**2 * 2.0**-52 + scores.e.max(axis=1, initial=0.0).sum() * 2)
    wrong = None if total >= most - slack else Mismatch("total of the assignment", (), float(total), float(most), float(slack))
    return wrong, int((ids != best).sum())


def _selection(scores, chosen):
    """Rows of `chosen` must be distinct, descending, and above all that was left, up to the bounds of the scores."""
    value, error = scores.v, 2 * scores.e
    unsure = 0
    for row in range(len(chosen)):
        ids = chosen[row][chosen[row] >= 0]           # -1: a later rule rejected the choice
        if (ids >= value.shape[1]).any() or len(set(ids.tolist())) != len(ids):
            return Mismatch("selection is not distinct and in range", (row,), ids.tolist(), "distinct ids"), unsure
        exact = np.isnan(value[row]).any() or not np.isfinite(value[row][ids]).all() or not error[row].any()   # -inf may be left out
        key = order_key(value[row])
        order = np.argsort(~key, kind="stable")[: len(ids)]
        if np.array_equal(order, ids):
            continue
        rest = np.setdiff1d(np.arange(value.shape[1]), ids)
        low, high = value[row] - error[row], value[row] + error[row]
        sorted_well = (high[ids[:-1]] >= low[ids[1:]]).all()
        if exact or not sorted_well or (rest.size and high[ids].min(initial=np.inf) < low[rest].max()):
            return Mismatch("selection", (row,), ids.tolist(), order.tolist(), float(error[row].max())), unsure
        unsure += 1
    return None, unsure
