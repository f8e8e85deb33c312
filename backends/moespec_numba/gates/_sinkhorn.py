"""gates.sinkhorn."""

import numpy as np

from moespec.program import Impl
from moespec_numba._exp import exp_down
from moespec_numba._kernel import OPS, REORDER, empty, kernel, read


def forward(logits, *, iterations=20):
    dims = OPS["gates.sinkhorn"].admit(logits, iterations=iterations)
    plan = empty(logits.shape, logits.dtype)
    if logits.size:
        _sinkhorn(read(logits), iterations, logits.dtype.type(np.log(dims.T / dims.E)), plan)
    return plan, None


@kernel
def _sinkhorn(logits, iterations, share, plan):
    tokens, experts = logits.shape
    f, g = np.zeros(tokens, logits.dtype), np.zeros(experts, logits.dtype)
    top, total = np.empty(experts, logits.dtype), np.empty(experts, logits.dtype)
    for _ in range(iterations):
        for t in range(tokens):
            f[t] = -_logsumexp_row(logits[t], g)
        _sum_columns(logits, f, top, total)
        for e in range(experts):
            g[e] = share - _logarithm(top[e], total[e])
    for t in range(tokens):
        for e in range(experts):
            plan[t, e] = np.exp(logits[t, e] + f[t] + g[e])


@kernel(entry=False)
def _logarithm(top, total):
    """The logarithm of a sum that was shifted by its largest term, where that is finite."""
    return np.log(total) + top if np.isfinite(top) else np.log(total)


@kernel(fastmath=REORDER, entry=False)
def _logsumexp_row(row, g):
    top, total = row.dtype.type(-np.inf), row.dtype.type(0)
    for e in range(len(row)):
        x = row[e] + g[e]
        top = x if x > top else top
    if np.isfinite(top):
        for e in range(len(row)):
            total += exp_down(row[e] + g[e] - top)
    else:
        for e in range(len(row)):
            total += np.exp(row[e] + g[e])
    return _logarithm(top, total)


@kernel(entry=False)
def _sum_columns(logits, f, top, total):
    """Down all columns at once, row after row."""
    tokens, experts = logits.shape
    top[:], total[:] = -np.inf, 0
    for t in range(tokens):
        for e in range(experts):
            x = logits[t, e] + f[t]
            top[e] = x if x > top[e] else top[e]
    for t in range(tokens):
        for e in range(experts):
            total[e] += exp_down(logits[t, e] + f[t] - top[e])
    for e in range(experts):
        if not np.isfinite(top[e]):
            total[e] = 0
            for t in range(tokens):
                total[e] += np.exp(logits[t, e] + f[t])


IMPL = Impl(forward)
