"""Sums of pairs: the logits of all experts behind two sets of product keys."""

from typing import NamedTuple

import numpy as np

from moespec import corpus
from moespec.numerics import widen
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    shape: tuple            # T n m
    dtypes: tuple


def pair_sums(first, second):
    r"""Add every entry of one half to every entry of the other.

    .. math:: l_{t, a m + b} = f_{ta} + s_{tb}, \qquad 0 \le a < n, \; 0 \le b < m

    What `product_keys` searches without writing it down; balance losses over all experts read it.  Its softmax is the product of
    those of the halves.

    Parameters
    ----------
    first : (T, n) real
    second : (T, m) real

    Returns
    -------
    logits : (T, E) real
        E = n m; in the dtype of `first`.
    Saved

    References
    ----------
    Lample et al. 2019, eq. 4; He 2024 (PEER), section 2.
    """
    OP.admit(first, second)
    sums = widen(first)[:, :, None] + widen(second)[:, None, :]
    return sums.reshape(len(first), first.shape[1] * second.shape[1]).astype(first.dtype), Saved(sums.shape, (first.dtype, second.dtype))


def pair_sums_backward(saved, dlogits):
    r"""Every half sums over the other.

    .. math:: \bar f_{ta} = \sum_b \bar l_{t, a m + b}, \qquad \bar s_{tb} = \sum_a \bar l_{t, a m + b}
    """
    d = widen(dlogits).reshape(saved.shape)
    return d.sum(2).astype(saved.dtypes[0]), d.sum(1).astype(saved.dtypes[1])


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for t, n, m in ((5, 3, 4), (1, 1, 1), (4, 7, 2), (3, 1, 5)):
        yield Case(f"{n}_and_{m}", {"first": corpus.normal(rng, t, n), "second": corpus.normal(rng, t, m)})
        yield Case(f"{n}_and_{m}_dyadic", {"first": corpus.dyadic(rng, t, n), "second": corpus.dyadic(rng, t, m)}, {}, frozenset({"exact"}))
    yield Case("no_tokens", {"first": np.zeros((0, 3)), "second": np.zeros((0, 3))}, {}, frozenset({"empty"}))
    yield Case("special", {"first": np.array([[np.nan, np.inf, 0.0]]), "second": np.array([[1.0, -np.inf, -0.0]])}, {}, frozenset({"nan", "inf"}))


INVALID = (
    (Case("other_tokens", {"first": np.zeros((2, 3)), "second": np.zeros((3, 3))}), ValueError,
     r"pair_sums: second has shape \(3, 3\), but T must be 2"),
    (Case("one_dimension", {"first": np.zeros(3), "second": np.zeros(3)}), ValueError, r"pair_sums: first has shape \(3,\), wanted 2 dimensions"),
)


def _entry_by_entry(run):
    f, s = np.asarray(run.inputs["first"], float), np.asarray(run.inputs["second"], float)
    n, m = f.shape[1], s.shape[1]
    got = np.asarray(run.outputs.logits, float)
    with np.errstate(invalid="ignore"):
        want = np.array([[f[t, e // m] + s[t, e % m] for e in range(n * m)] for t in range(len(f))]).reshape(got.shape)
        near = np.abs(got - want) <= 2 * run.unit * np.abs(want)
    return near | (got == want) | (np.isnan(got) & np.isnan(want))


def _sums_agree(run):
    """Both halves get the whole cotangent."""
    a, b = (np.asarray(run.grads[n], float).sum(1) for n in ("first", "second"))
    size = np.abs(np.asarray(run.cotangents["logits"], float)).sum(1)
    return np.abs(a - b) <= 4 * (run.dims.n + run.dims.m) * run.unit * size


REQUIREMENTS = (
    Req("PAIR_SUMS-1", "Entry a m + b is the sum of entry a of the first half and entry b of the second.", _entry_by_entry),
    Req("PAIR_SUMS-2", "The gradients of both halves have the same sum.", _sums_agree),
)

OP = Op(
    name="gates.pair_sums",
    inputs=(Arg("first", "T n"), Arg("second", "T m")),
    outputs=(Arg("logits", "T E"),),                                     # E = n m
    forward=pair_sums,
    backward=pair_sums_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    flops=lambda T, n, m, **_: (T * n * m, 2 * T * n * m),
    refs=("Lample et al. 2019, eq. 4",),
)
