"""gates.accept, and its decision."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read


class Saved(NamedTuple):
    kept: np.ndarray        # T 2
    dtype: np.dtype


def forward(indices, weights, uniform, kept=None, *, rule="gshard", threshold=0.2):
    OPS["gates.accept"].admit(indices, weights, uniform, kept, rule=rule, threshold=threshold)
    dtype, ids = np.result_type(weights, uniform), read(indices, "int64")
    found, out = empty(weights.shape, "int64"), empty(weights.shape, weights.dtype)
    given = ids if kept is None else read(kept, "int64")
    _accept(ids, read(weights, dtype), read(uniform, dtype), given, kept is not None, *factor(rule, threshold, dtype), found, out)
    return (found, out), Saved(read(found), weights.dtype)


def backward(saved, dweights):
    din = empty(dweights.shape, saved.dtype)
    _backward(saved.kept, read(dweights), din)
    return din


def factor(rule, threshold, dtype):
    """A second share s is kept where s * times / by exceeds the draw."""
    return (dtype.type(2), dtype.type(1)) if rule == "gshard" else (dtype.type(1), dtype.type(threshold))


@kernel(inline="always")
def kept_row(ids, second, uniform, given, use_given, times, by, kept):
    """The routing of one token after the decision."""
    taken = given[1] >= 0 if use_given else second * times / by > uniform
    kept[0], kept[1] = ids[0], ids[1] if taken else -1


@kernel
def _accept(ids, weights, uniform, given, use_given, times, by, kept, out):
    for t in range(len(ids)):
        kept_row(ids[t], weights[t, 1], uniform[t], given[t], use_given, times, by, kept[t])
        for j in range(2):
            out[t, j] = weights[t, j] if kept[t, j] >= 0 else 0


@kernel
def _backward(kept, dweights, din):
    for t in range(len(kept)):
        for j in range(2):
            din[t, j] = dweights[t, j] if kept[t, j] >= 0 else 0


IMPL = Impl(forward, backward)
