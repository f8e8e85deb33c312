"""dispatch.drop."""

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read, zeros
from moespec_numba.dispatch._serving import by_choice, by_position, descending, numbered
from moespec_numba.gates._order import above


def forward(indices, priority=None, noise=None, group=None, *, experts, capacity, order="choice"):
    OPS["dispatch.drop"].admit(indices, priority, noise, group, experts=experts, capacity=capacity, order=order)
    if capacity is None:
        return indices.astype("int64"), None
    ids, kept = read(indices, "int64"), empty(indices.shape, "int64")
    rows, groups = numbered(group, len(ids))
    served = _served(ids, priority, noise, order)
    (by_position if order in ("token", "score") else by_choice)(ids, read(served, "int64"), rows, zeros((groups, experts), "int64"),
                                                                capacity, kept)
    _places_to_ids(ids, kept)
    return kept, None


def _served(ids, priority, noise, order):
    """Positions (token, score) or tokens (choice, batch, random) in the order of service."""
    if order == "score":
        return descending(priority.ravel())
    if order == "batch":
        best = empty(len(ids), priority.dtype)
        _best(ids, read(priority), best)
        return descending(best)
    if order == "random":
        return np.argsort(noise, kind="stable")
    return np.arange(ids.size if order == "token" else len(ids))


@kernel
def _best(ids, priority, best):
    """The largest priority of a token's assignments, NaN above all."""
    for t in range(len(ids)):
        best[t] = -np.inf
        for j in range(ids.shape[1]):
            if ids[t, j] >= 0 and above(priority[t, j], best[t]):
                best[t] = priority[t, j]


@kernel
def _places_to_ids(ids, kept):
    """In place."""
    for t in range(len(ids)):
        for j in range(ids.shape[1]):
            if kept[t, j] >= 0:
                kept[t, j] = ids[t, j]


IMPL = Impl(forward)
