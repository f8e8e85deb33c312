"""gates.renormalize, and its row forms."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import empty, like, read
from moespec_numba_cuda._device import cuda, device
from moespec_numba_cuda._kernel import items, kernel

NONE, SUM, CLAMP, LP = 0, 1, 2, 3
NORMS = {"none": NONE, "sum": SUM, "clamp": CLAMP, "lp": LP}


def forward(chosen, indices, *, norm="none", eps=0.0, scale=1.0, p=1.0):
    admit("gates.renormalize", chosen, indices, norm=norm, eps=eps, scale=scale, p=p)
    x, how = read(chosen), (NORMS[norm], eps, scale, p)
    weights = empty(x.shape, x.dtype)
    _weigh(items(len(x)), x, read(indices, "int64"), *how, weights)
    return like(chosen, weights), (chosen, indices, how)


def backward(saved, dweights):
    chosen, indices, how = saved
    x = read(chosen)
    dchosen = empty(x.shape, x.dtype)
    _unweigh(items(len(x)), x, read(indices, "int64"), *how, read(dweights, x.dtype), dchosen)
    return like(chosen, dchosen)


@device
def normaliser(chosen, ids, norm, eps, p):
    """What a token's scores are divided by, their sum or length before eps, and whether it follows them; 1 where there is no expert."""
    one, length, live = chosen.dtype.type(1), chosen.dtype.type(0), False
    if norm == NONE:
        return one, one, False
    for j in range(len(ids)):
        if ids[j] >= 0:
            live = True
            length += abs(chosen[j]) ** p if norm == LP else chosen[j]
    if norm == LP:
        length = length ** (one / p)
    follows = norm != CLAMP or length >= eps
    if not live:
        return one, length, follows
    if norm == CLAMP:
        return (length if follows else eps), length, follows
    return length + eps, length, follows


@device
def slope_of(c, length, norm, p, one):
    """Of the normaliser by one of its scores; of a p-norm at 0 it is 0.  `one` is 1 in the dtype of the others."""
    if norm != LP:
        return one
    if c > 0:
        return (c / length) ** (p - one)
    return -((-c / length) ** (p - one)) if c < 0 else one - one


@device
def weigh_row(chosen, ids, norm, eps, scale, p, weights):
    """The weights of one token, 0 at nobody."""
    by, _, _ = normaliser(chosen, ids, norm, eps, p)
    zero = chosen.dtype.type(0)
    for j in range(len(ids)):
        weights[j] = chosen[j] / by * scale if ids[j] >= 0 else zero


@device
def unweigh_row(chosen, ids, norm, eps, scale, p, dweights, dchosen):
    """The gradient of `chosen`, 0 at nobody."""
    zero, one = chosen.dtype.type(0), chosen.dtype.type(1)
    by, length, follows = normaliser(chosen, ids, norm, eps, p)
    through = zero
    if follows:
        for j in range(len(ids)):
            if ids[j] >= 0:
                through += dweights[j] * chosen[j]
        through /= by
    for j in range(len(ids)):
        dchosen[j] = zero
        if ids[j] >= 0:
            dchosen[j] = scale * ((dweights[j] - through * slope_of(chosen[j], length, norm, p, one)) / by)


@kernel("T2 i2 i T T T T2")
def _weigh(chosen, ids, norm, eps, scale, p, weights):
    for t in range(cuda.grid(1), len(ids), cuda.gridsize(1)):
        weigh_row(chosen[t], ids[t], norm, eps, scale, p, weights[t])


@kernel("T2 i2 i T T T T2 T2")
def _unweigh(chosen, ids, norm, eps, scale, p, dweights, dchosen):
    for t in range(cuda.grid(1), len(ids), cuda.gridsize(1)):
        unweigh_row(chosen[t], ids[t], norm, eps, scale, p, dweights[t], dchosen[t])


IMPL = Impl(forward, backward)
