"""The chances of experts that their noise is drawn again: what the load losses share."""

from typing import Any, NamedTuple

from moespec_cupy._kernel import Kernels, accumulation, empty, read, rows
from moespec_cupy.experts._products import common

KERNELS = Kernels(__file__, "_load.cu")


class Saved(NamedTuple):
    logits: list            # clean, sigma, noisy [R, E] in one dtype
    order: Any              # R M
    k: int
    member: Any             # R     how often a row counts, or None
    dtypes: list            # of clean, sigma, noisy


def chances(clean, sigma, noisy, order, k, shape, member=None):
    """(P [R, E], saved) of logits brought to the shape [R, E]; the order is taken if it is not given.  `member` in the dtype of P."""
    logits = [a.reshape(shape) for a in common(clean, sigma, noisy)]
    (count, experts), columns = shape, min(k + 1, shape[1])
    if order is None:
        order = empty((count, columns), "int64")
        KERNELS("best_first", rows(count), read(noisy).reshape(shape), order, count, experts, columns)
    order = read(order, "int64").reshape(count, columns)
    p = empty(shape, accumulation(logits[0].dtype))
    KERNELS("chances", rows(count), *logits, order, member, p, count, experts, columns, k)
    return p, Saved(logits, order, k, member, [a.dtype for a in (clean, sigma, noisy)])


def chances_backward(saved, dload, shape):
    """Gradients of clean, sigma and noisy in `shape`; dload [G, E] belongs to row r % G."""
    (count, experts), columns = saved.logits[0].shape, saved.order.shape[1]
    grads = [empty(a.shape, a.dtype) for a in saved.logits]
    dload = read(dload, accumulation(saved.logits[0].dtype))
    groups = dload.size // max(experts, 1)
    KERNELS("chances_backward", rows(count), *saved.logits, saved.order, saved.member, dload, *grads, count, experts, columns, saved.k, groups)
    return tuple(g.reshape(shape).astype(t, copy=False) for g, t in zip(grads, saved.dtypes, strict=True))
