"""losses.batchwise_threshold."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, kernel, read, zeros
from moespec_numba.gates._best_tokens import best_tokens
from moespec_numba.losses._scalar import rounded


class Saved(NamedTuple):
    lacking: np.ndarray     # E   how many tokens too few a threshold lets through
    dtype: np.dtype


def forward(probs, thresholds, *, k):
    dims = OPS["losses.batchwise_threshold"].admit(probs, thresholds, k=k)
    wide, lacking = np.result_type(probs, thresholds), zeros(dims.E, "float64")
    x = read(probs, wide)
    loss = _threshold(x, read(thresholds, wide), read(best_tokens(x, k * dims.T // dims.E)), lacking)
    return rounded(loss, probs.dtype), Saved(lacking, thresholds.dtype)


def backward(saved, dloss):
    return (saved.lacking * float(dloss)).astype(saved.dtype)


@kernel
def _threshold(probs, thresholds, chosen, lacking):
    """The loss: what lies above the thresholds, less what the batch-wise mask holds (chosen >= 0), each from its threshold."""
    total = np.float64(0)
    for t in range(len(probs)):
        for e in range(len(thresholds)):
            excess = probs[t, e] - thresholds[e]
            more = int(probs[t, e] > thresholds[e]) - int(chosen[t, e] >= 0)
            lacking[e] -= more
            total += np.float64(more) * np.float64(excess)
    return total


IMPL = Impl(forward, backward)
