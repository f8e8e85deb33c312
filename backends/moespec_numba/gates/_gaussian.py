"""gates.gaussian."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, REORDER, empty, kernel, read, zeros


class Saved(NamedTuple):
    x: np.ndarray           # T D
    means: np.ndarray       # E D
    precisions: np.ndarray  # E D
    dtypes: tuple           # of the inputs


def forward(x, means, log_precisions, log_priors):
    OPS["gates.gaussian"].admit(x, means, log_precisions, log_priors)
    inputs = x, means, log_precisions, log_priors
    wide = np.result_type(*inputs)
    tokens, centres, logs, priors = (read(a, wide) for a in inputs)
    with np.errstate(all="ignore"):
        saved = Saved(tokens, centres, read(np.exp(logs)), tuple(a.dtype for a in inputs))
        norms = read(priors + wide.type(0.5) * logs.sum(1))
    logits = empty((len(tokens), len(centres)), wide)
    _forward(*saved[:3], norms, logits)
    return logits.astype(x.dtype, copy=False), saved


def backward(saved, dlogits):
    x, means, precisions, dtypes = saved
    wide, d = x.dtype, read(dlogits, x.dtype)
    dx, dmeans, dlogs, dpriors = zeros(x.shape, wide), zeros(means.shape, wide), zeros(means.shape, wide), zeros(len(means), wide)
    _backward(x, means, precisions, d, dx, dmeans, dlogs, dpriors)
    return tuple(a.astype(dtype, copy=False) for a, dtype in zip((dx, dmeans, dlogs, dpriors), dtypes, strict=True))


@kernel(fastmath=REORDER, entry=False)
def _distance(x, mean, precision):
    """The squared distance in units of the expert's own widths."""
    total = x.dtype.type(0)
    for d in range(len(x)):
        total += precision[d] * ((x[d] - mean[d]) * (x[d] - mean[d]))
    return total


@kernel
def _forward(x, means, precisions, norms, logits):
    half = x.dtype.type(0.5)
    for t in range(len(x)):
        for e in range(len(means)):
            logits[t, e] = norms[e] - half * _distance(x[t], means[e], precisions[e])


@kernel
def _backward(x, means, precisions, dlogits, dx, dmeans, dlogs, dpriors):
    half, one = x.dtype.type(0.5), x.dtype.type(1)
    for t in range(len(x)):
        for e in range(len(means)):
            g = dlogits[t, e]
            dpriors[e] += g
            for d in range(x.shape[1]):
                error = x[t, d] - means[e, d]
                pull = precisions[e, d] * error
                dx[t, d] -= g * pull
                dmeans[e, d] += g * pull
                dlogs[e, d] += half * g * (one - pull * error)


IMPL = Impl(forward, backward)
