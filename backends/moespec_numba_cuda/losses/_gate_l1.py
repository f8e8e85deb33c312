"""losses.gate_l1."""

from __future__ import annotations

from typing import Any, NamedTuple

from moespec.numerics import acc
from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import empty, full, like, read
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda._rows import legal
from moespec_numba_cuda.losses._balance import coefficients, slopes, valid
from moespec_numba_cuda.losses._choices import choice_sums, to_choices
from moespec_numba_cuda.losses._mean import counts, mean


class Saved(NamedTuple):
    ids: Any                # T K
    weights: Any            # T K
    mask: Any               # T, or empty
    counted: Any            # 1
    load: Any               # E   what a gate is weighted with


def forward(indices, weights, mask=None, *, experts, k=None):
    dims = admit("losses.gate_l1", indices, weights, mask, experts=experts, k=k)
    ids, w, (mask, counted) = read(indices, "int64"), read(weights), valid(mask, dims.T)
    if k is None:
        load = full(experts, 1, "float64")
    else:
        load = coefficients(choice_sums(ids, experts, mask), counted, scale=experts, per=k)
    gates = empty(len(ids), "float64")
    _gates(items(len(ids)), ids, w, mask, load, gates)
    return mean(gates, mask, counted, w.dtype), Saved(ids, weights, mask, counted, load)


def backward(saved, dloss):
    each = slopes(saved.load, saved.counted, dloss, acc(saved.weights))
    return like(saved.weights, to_choices(saved.ids, each, saved.mask))


@kernel("i2 T2 b1 d1 d1")
def _gates(ids, weights, mask, load, gates):
    """The sum of every token's weighted gates."""
    for t in range(cuda.grid(1), ids.shape[0], cuda.gridsize(1)):
        total = load.dtype.type(0)
        for j in range(ids.shape[1] if counts(mask, t) else 0):
            e = legal(ids[t, j], len(load))
            if e >= 0:
                total += load[e] * weights[t, j]
        gates[t] = total


IMPL = Impl(forward, backward)
