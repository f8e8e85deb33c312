"""The normative order, and gather and scatter in which index -1 means "none".

One integer key defines the order for every backend: NaN above every number, -0.0 equal to +0.0, otherwise IEEE;
equal keys go to the lower index.  Everything here works on arrays and on (value, error) pairs.
"""

from __future__ import annotations

import numpy as np

from moespec.pairs import Pair, current, value


def order_key(x):
    """int64 keys that sort as the normative order does."""
    x = np.asarray(value(x)).astype(np.float64) + 0.0                            # -0.0 + 0.0 is +0.0
    bits = x.view(np.int64)
    key = np.where(bits < 0, bits ^ np.int64(0x7FFF_FFFF_FFFF_FFFF), bits)       # two's complement order of the magnitude
    return np.where(np.isnan(x), np.int64(0x7FFF_FFFF_FFFF_FFFF), key)


def argsort(x, axis=-1):
    """Indices that sort `x` in descending normative order, ties to the lower index."""
    return np.argsort(~order_key(x), axis=axis, kind="stable")                   # ~key descends and cannot overflow


def topk(x, k):
    """int64[..., k]: indices of the k largest along the last axis, in descending normative order."""
    return argsort(x)[..., :k]


def select(scores, k, given=None):
    """The k largest of every row, or the `given` indices; on pairs the choice is recorded, to be judged by margin."""
    chosen = topk(scores, k) if given is None else given
    if isinstance(scores, Pair):
        current().selections.append(("select", scores, chosen, k))
    return chosen


def assign(scores, given=None):
    """int64[T]: an expert for every token, T / E for each, or the `given` ones; on pairs recorded, to be judged by its total."""
    chosen = balanced_assignment(value(scores)) if given is None else given
    if isinstance(scores, Pair):
        current().selections.append(("assign", scores, chosen[:, None], None))
    return chosen


def balanced_assignment(scores):
    """int64[T]: of all assignments with T / E tokens for every expert, one with the largest total (Hungarian algorithm)."""
    from scipy.optimize import linear_sum_assignment
    tokens, experts = scores.shape
    _, place = linear_sum_assignment(np.repeat(finite_scores(scores), tokens // experts, axis=1), maximize=True)
    return (place // max(tokens // experts, 1)).astype(np.int64)


def finite_scores(scores):
    """float64 scores in which everything that is not finite is the smallest finite one (0 if there is none)."""
    x = np.asarray(scores).astype(np.float64)
    ok = np.isfinite(x)
    return np.where(ok, x, x[ok].min() if ok.any() else 0.0)


def decide(condition, given=None):
    """A 0/1 decision as a bool array, or the `given` one; on pairs it is recorded, to be judged where it was sure."""
    if not isinstance(condition, Pair):
        return condition if given is None else given
    made = condition.v.astype(bool) if given is None else given
    current().selections.append(("decide", condition, made, None))
    return made


def take(x, indices, missing=0.0):
    """[T, K]: x[t, indices[t, k]], and `missing` where the index is -1."""
    if x.shape[1] == 0 or indices.size == 0:
        return np.full(indices.shape, missing, value(x).dtype)
    return np.where(indices >= 0, np.take_along_axis(x, np.maximum(indices, 0), 1), missing)


def untake(values, indices, size):
    """[T, size]: values[t, k] added into column indices[t, k]; -1 adds nothing.  The adjoint of `take`."""
    tokens = indices.shape[0]
    flat = np.where(indices >= 0, np.arange(tokens, dtype=np.int64)[:, None] * size + indices, -1)
    return add_rows(values, flat, tokens * size).reshape(tokens, size)


def take_rows(x, index):
    """x[index] along the first axis, zeros where the index is -1; `index` may have any shape."""
    if len(x) == 0:
        return np.zeros(index.shape + x.shape[1:], value(x).dtype)
    live = index >= 0
    if live.all():
        return x[index]
    return np.where(live.reshape(index.shape + (1,) * (x.ndim - 1)), x[np.maximum(index, 0)], 0.0).astype(x.dtype)


def add_rows(values, index, n):
    """[n, ...]: values[i] added into row index[i], in ascending i; -1 adds nothing.  The adjoint of `take_rows`."""
    rows, flat = values.reshape((index.size, *values.shape[index.ndim:])), index.ravel()
    live = flat >= 0
    return _scatter(rows, flat, n) if live.all() else _scatter(rows[live], flat[live], n)


def require_ids(name, indices, experts):
    """Refuse ids outside -1 .. experts-1."""
    low, high = (int(indices.min()), int(indices.max())) if indices.size else (0, 0)
    if low < -1 or high >= experts:
        raise ValueError(f"{name}: indices holds {high if high >= experts else low}, outside -1 .. {experts - 1} "
                         f"(indices has shape {indices.shape})")


def require_groups(name, group):
    """Refuse negative group ids; None is one group."""
    if group is not None and group.size and group.min() < 0:
        raise ValueError(f"{name}: group holds {group.min()}, wanted at least 0 (group has shape {group.shape})")


def members(group, tokens, groups=None):
    """The tokens of every group in ascending order: of 0 .. groups-1, or of the ids that occur; None is one group."""
    if group is None:
        return [np.arange(tokens)]
    found = [np.flatnonzero(group == g) for g in (np.unique(group) if groups is None else range(groups))]
    return found or [np.arange(0)]


def rejoin(parts, owners):
    """The parts of all groups, row by row, back in the order of the tokens.  Undoes x[own] for own in `owners`."""
    return np.concatenate(parts)[np.argsort(np.concatenate(owners), kind="stable")]


def counts(indices, size):
    """int64[size]: how often each of 0 .. size-1 occurs; -1 is not counted."""
    return np.bincount(indices[indices >= 0].ravel(), minlength=size).astype(np.int64)


def ranks(keys, sequence=None):
    """int64[n]: how many entries with the same key come before, in `sequence` (default: in order of position)."""
    sequence = np.arange(keys.size) if sequence is None else sequence
    order = sequence[np.argsort(keys[sequence], kind="stable")]
    first = np.flatnonzero(np.diff(keys[order], prepend=np.nan) != 0)                 # where a new key begins
    found = np.empty(keys.size, np.int64)
    found[order] = np.arange(keys.size) - np.repeat(first, np.diff(first, append=keys.size))
    return found


def _scatter(values, index, n):
    if isinstance(values, Pair):
        return values.accumulate(lambda a: _scatter(a, index, n))
    out = np.zeros((n, *values.shape[1:]), values.dtype)
    times = ranks(index) if values.ndim > 1 else index
    if values.ndim == 1 or times.max(initial=0) > 64:
        np.add.at(out, index, values)
        return out
    for again in range(times.max(initial=-1) + 1):            # the same order as add.at, whole rows at a time
        once = times == again
        out[index[once]] += values[once]
    return out
