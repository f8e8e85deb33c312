"""dispatch.mix: a matrix product for every group."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty
from moespec_numba.dispatch._groups import by_group, owners


class Saved(NamedTuple):
    x: np.ndarray           # T D
    dispatch: np.ndarray    # T S
    owners: list            # what selects the tokens of every group


def forward(x, dispatch, group=None, *, experts, groups=1):
    dims = OPS["dispatch.mix"].admit(x, dispatch, group, experts=experts, groups=groups)
    saved = Saved(x, dispatch, owners(group, groups))
    rows = empty((dims.S, groups, dims.D), x.dtype)
    for g, own in enumerate(saved.owners):
        rows[:, g] = dispatch[own].T @ x[own]
    offsets = np.arange(experts + 1, dtype="int64") * (dims.S // experts * groups)
    return (rows.reshape(dims.S * groups, dims.D), offsets), saved


def backward(saved, drows):
    dx, ddispatch = empty(saved.x.shape, saved.x.dtype), empty(saved.dispatch.shape, saved.dispatch.dtype)
    d = by_group(drows, len(saved.owners))
    for g, own in enumerate(saved.owners):
        dx[own] = saved.dispatch[own] @ d[:, g]
        ddispatch[own] = saved.x[own] @ d[:, g].T
    return dx, ddispatch


IMPL = Impl(forward, backward)
