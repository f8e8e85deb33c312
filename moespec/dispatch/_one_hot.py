"""The one-hot form: routing and capacity as dense T x E x C masks (GShard), an independent second definition."""

from typing import NamedTuple

import numpy as np

from moespec import corpus, indexing
from moespec.dispatch._drop import require_capacity
from moespec.dispatch._serving import choice_major, places
from moespec.indexing import require_ids
from moespec.numerics import widen
from moespec.op import Arg, Case, Op, Req


class OneHot(NamedTuple):
    """Dense dispatch and combine tensors."""

    dispatch: np.ndarray    # T E C   bool: token t sits in place c of expert e
    combine: np.ndarray     # T E C   its weight


class Saved(NamedTuple):
    spot: np.ndarray        # T K   flat position in T E C, -1 = none
    dtype: np.dtype


def one_hot(indices, weights, *, experts, capacity):
    r"""Place every assignment in its expert's buffer of `capacity` places, in the order ``choice`` of `drop`.

    .. math:: \mathrm{combine}_{tec} = \sum_j w_{tj} [i_{tj} = e] [\mathrm{place}_{tj} = c]

    The mask follows from the places, not from ``combine != 0``: a gate that underflows to 0 keeps its place.

    Parameters
    ----------
    indices : (T, K) integer
        -1 takes no place; a repeated id takes two.
    weights : (T, K) real
    experts, capacity : int
        E and C.

    Returns
    -------
    OneHot(dispatch, combine)
        bool, and the dtype of `weights`.
    Saved
        The flat positions.

    Raises
    ------
    ValueError
        An id outside -1 .. E-1, a negative capacity.

    References
    ----------
    Lepikhin et al. 2020, algorithm 1 and section 3.2.
    """
    OP.admit(indices, weights, experts=experts, capacity=capacity)
    tokens, k = indices.shape
    place = places(indices, choice_major(tokens, k), experts)
    spot = (np.arange(tokens, dtype=np.int64)[:, None] * experts + indices) * capacity + place
    spot = np.where((indices >= 0) & (place < capacity), spot, -1)
    shape, size = (tokens, experts, capacity), tokens * experts * capacity
    taken = indexing.counts(spot, size).astype(bool).reshape(shape)
    combine = indexing.add_rows(weights, spot, size).reshape(shape)
    return OneHot(taken, combine.astype(weights.dtype)), Saved(spot, weights.dtype)


def one_hot_backward(saved, dcombine):
    r"""Each assignment reads its place; what was dropped gets 0.

    .. math:: \bar w_{tj} = \overline{\mathrm{combine}}_{t, i_{tj}, \mathrm{place}_{tj}}
    """
    return indexing.take_rows(widen(dcombine).reshape(-1), saved.spot).astype(saved.dtype)


def _check(dims, indices, weights, *, experts, capacity):
    require_ids("one_hot", indices, experts)
    require_capacity("one_hot", capacity, None, indices.shape)


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for case in corpus.routings(rng, experts=4, tokens=7):
        weights = corpus.dyadic(rng, *case.inputs["indices"].shape)
        for c in (0, 1, 3, 9):
            yield case.add(weights=weights, tags=("exact",)).with_(f"capacity_{c}", experts=4, capacity=c)
    zero = {"indices": np.array([[0, 1], [0, 2]]), "weights": np.array([[1.0, 0.0], [0.0, 1.0]])}
    yield Case("weight_zero_keeps_its_place", zero, {"experts": 3, "capacity": 2}, frozenset({"exact"}))


INVALID = (
    (Case("id_too_large", {"indices": np.full((2, 1), 3), "weights": np.zeros((2, 1))}, {"experts": 3, "capacity": 1}), ValueError,
     r"one_hot: indices holds 3, outside -1 \.\. 2"),
    (Case("below", {"indices": np.zeros((2, 1), int), "weights": np.zeros((2, 1))}, {"experts": 3, "capacity": -1}), ValueError,
     r"one_hot: capacity=-1 must be at least 0"),
)


def _as_dropped(run):
    """As many places are taken per token and expert as a walk over the choices keeps."""
    ids, left = run.inputs["indices"], np.full(run.dims.experts, run.attrs["capacity"])
    wanted = np.zeros((len(ids), run.dims.experts), int)
    for j, t in np.ndindex(ids.shape[::-1]):
        if ids[t, j] >= 0 and left[ids[t, j]] > 0:
            left[ids[t, j]] -= 1
            wanted[t, ids[t, j]] += 1
    return run.outputs.dispatch.sum(2) == wanted


REQUIREMENTS = (
    Req("ONE_HOT-1", "A place holds one token at most.", lambda r: r.outputs.dispatch.sum(0) <= 1),
    Req("ONE_HOT-2", "Exactly the first C assignments of an expert, choice-major, have a place, whatever their weight.", _as_dropped),
    Req("ONE_HOT-3", "Places are filled from 0 on.", lambda r: np.diff(r.outputs.dispatch.sum(0).astype(int), axis=1) <= 0),
    Req("ONE_HOT-4", "Where there is no place there is no weight.", lambda r: r.outputs.dispatch | (r.outputs.combine == 0)),
)

OP = Op(
    name="dispatch.one_hot",
    inputs=(Arg("indices", "T K", "index", of="E"), Arg("weights", "T K")),
    outputs=(Arg("dispatch", "T E C", "mask"), Arg("combine", "T E C", like="weights")),
    forward=one_hot,
    backward=one_hot_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, E, C, **_: (T * E * C, 0),
    refs=("Lepikhin et al. 2020, algorithm 1, section 3.2",),
)
