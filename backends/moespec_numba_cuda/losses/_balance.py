"""What the balance losses share: a constant per expert times the mean probability of the expert."""

from __future__ import annotations

from typing import Any, NamedTuple

from moespec.numerics import acc
from moespec_numba_cuda._arrays import empty, like, read
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda.losses._mean import column_sums, cotangent, count_valid, counts, masked


class Saved(NamedTuple):
    coefficient: Any        # E
    counted: Any            # 1
    mask: Any               # T, or empty
    probs: Any              # T E, in any number of dimensions


def valid(mask, tokens):
    """(mask as kernels take it, how many tokens count)."""
    mask = masked(mask)
    return mask, count_valid(mask, tokens)


def weigh_means(probs, coefficient, mask, counted):
    """(loss, saved): the sum of the coefficients times the mean probabilities of the tokens that count."""
    x = read(probs)
    loss = empty(1, x.dtype)
    sums = column_sums(x.reshape(x.size // max(len(coefficient), 1), len(coefficient)), mask)
    _weigh(items(1), coefficient, sums, counted, loss)
    return loss.reshape(()), Saved(coefficient, counted, mask, probs)


def weigh_means_backward(saved, dloss):
    """The coefficients are constant."""
    dprobs = empty(saved.probs.shape, acc(saved.probs))
    each = slopes(saved.coefficient, saved.counted, dloss, dprobs.dtype)
    _to_probs(items(dprobs.size), each, saved.mask, dprobs.reshape(dprobs.size // max(len(each), 1), len(each)))
    return like(saved.probs, dprobs)


def coefficients(load, whole, *, scale=1.0, per=1, together=1, ffn=None, tau=1.0):
    """float64[E]: scale load[e] / (per whole); load added up over groups of so many experts, and the result times tau from `ffn` on."""
    out = empty(load.shape, "float64")
    _coefficients(items(len(load)), load, whole, scale, per, together, len(load) if ffn is None else ffn, tau, out)
    return out


def per_assignment(choices, normalizer):
    """What a token's assignments are divided by."""
    return max(choices, 1) if normalizer == "assignments" else 1


def slopes(factors, counted, dloss, dtype):
    """[E]: what the mean with these factors hands to a token that counts."""
    out = empty(factors.shape, dtype)
    _slopes(items(len(out)), factors, counted, cotangent(dloss, dtype), out)
    return out


@kernel("d1 d1 d d i i d d1")
def _coefficients(load, whole, scale, per, together, ffn, tau, out):
    for e in range(cuda.grid(1), len(load), cuda.gridsize(1)):
        own, first = load.dtype.type(0), e - e % together
        for i in range(first, first + together):
            own += load[i]
        own = scale * own / (per * whole[0])
        out[e] = own if e < ffn else own * tau


@kernel("d1 d1 d1 T1")
def _weigh(coefficient, sums, counted, loss):
    """By one thread."""
    for i in range(cuda.grid(1), len(loss), cuda.gridsize(1)):
        total = sums.dtype.type(0)
        for e in range(len(sums)):
            total += coefficient[e] * (sums[e] / counted[0])
        loss[i] = total


@kernel("d1 d1 T1 T1")
def _slopes(factors, counted, dloss, out):
    for e in range(cuda.grid(1), len(out), cuda.gridsize(1)):
        out[e] = dloss[0] * factors[e] / counted[0]


@kernel("T1 b1 T2")
def _to_probs(each, mask, dprobs):
    width = len(each)
    for i in range(cuda.grid(1), dprobs.shape[0] * width, cuda.gridsize(1)):
        t, e = i // width, i % width
        dprobs[t, e] = each[e] if counts(mask, t) else 0
