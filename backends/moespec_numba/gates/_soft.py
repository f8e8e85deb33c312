"""gates.soft."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._exp import exp_down
from moespec_numba._kernel import OPS, empty, kernel, read, zeros
from moespec_numba.gates._softmax import softmax_rows, through_softmax_row


class Saved(NamedTuple):
    dispatch: np.ndarray    # T S
    combine: np.ndarray     # T S
    group: np.ndarray       # T   0, 1, ... by ascending id


def forward(logits, group=None):
    dims = OPS["gates.soft"].admit(logits, group)
    own = np.zeros(dims.T, "int64") if group is None else np.unique(group, return_inverse=True)[1]
    dispatch, combine = empty(logits.shape, logits.dtype), empty(logits.shape, logits.dtype)
    top, total = np.full((_groups(own), dims.S), -np.inf, logits.dtype), zeros((_groups(own), dims.S), logits.dtype)
    _over_tokens(read(logits), read(own, "int64"), top, total, dispatch)
    softmax_rows(read(logits), combine)
    return (dispatch, combine), Saved(read(dispatch), read(combine), read(own, "int64"))


def backward(saved, ddispatch, dcombine):
    shape, dtype = saved.dispatch.shape, saved.dispatch.dtype
    dd, dc = (zeros(shape, dtype) if d is None else d for d in (ddispatch, dcombine))
    total, dlogits = zeros((_groups(saved.group), shape[1]), dtype), empty(shape, dtype)
    _backward(*saved, total, read(dd), read(dc), dlogits)
    return dlogits


def _groups(own):
    return int(own.max(initial=-1)) + 1


@kernel
def _over_tokens(logits, group, top, total, dispatch):
    """A softmax down every column of a group; a NaN reaches the sum of its column."""
    tokens, slots = logits.shape
    for t in range(tokens):
        g = group[t]
        for s in range(slots):
            top[g, s] = logits[t, s] if logits[t, s] > top[g, s] else top[g, s]
    for t in range(tokens):
        g = group[t]
        for s in range(slots):
            dispatch[t, s] = exp_down(logits[t, s] - top[g, s])
            total[g, s] += dispatch[t, s]
    for t in range(tokens):
        for s in range(slots):
            dispatch[t, s] /= total[group[t], s]


@kernel
def _backward(dispatch, combine, group, total, ddispatch, dcombine, dlogits):
    tokens, slots = dispatch.shape
    for t in range(tokens):
        for s in range(slots):
            total[group[t], s] += dispatch[t, s] * ddispatch[t, s]
    for t in range(tokens):
        through_softmax_row(combine[t], dcombine[t], dlogits[t])
        for s in range(slots):
            dlogits[t, s] += dispatch[t, s] * (ddispatch[t, s] - total[group[t], s])


IMPL = Impl(forward, backward)
