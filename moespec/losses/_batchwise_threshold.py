"""The loss that trains the thresholds of strictly balanced gating (Shazeer et al. 2017, appendix F, eq. 20)."""

from typing import NamedTuple

import numpy as np

from moespec import corpus, indexing
from moespec.losses._checks import near
from moespec.losses._cooperation import LOSS
from moespec.numerics import acc, softmax, widen
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    difference: np.ndarray  # T E   batch-wise mask minus threshold mask
    dtype: np.dtype


def batchwise_threshold(probs, thresholds, *, k):
    r"""How far the experts' thresholds are from cutting the batch as the batch-wise mask does.

    .. math:: L = \sum_t \sum_i (M^\mathrm{thr}_{ti} - M^\mathrm{batch}_{ti}) (X_{ti} - T_i), \qquad
              M^\mathrm{thr}_{ti} = [X_{ti} > T_i]

    M^batch marks the m = floor(k T / E) largest of every expert's column.  A sum over the batch, as printed; never negative, and 0
    where each threshold lies between the (m+1)-th and the m-th value of its column.

    Parameters
    ----------
    probs : (T, E) real
        X: the softmax scores; constant under differentiation.
    thresholds : (E,) real
    k : int
        Experts per token, 1 <= k <= E.

    Returns
    -------
    loss : () real
        In the accumulation dtype.
    Saved
        The difference of the masks.

    Raises
    ------
    ValueError
        k out of range.

    References
    ----------
    Shazeer et al. 2017, eqs 18-20.
    """
    dims = OP.admit(probs, thresholds, k=k)
    x, limit = widen(probs), widen(thresholds)
    m = k * dims.T // dims.E
    batch = indexing.untake(np.ones((dims.E, m)), indexing.topk(x.T, m), dims.T).T
    difference = np.where(x > limit, 1.0, 0.0) - batch
    return (difference * (x - limit)).sum().astype(acc(probs)), Saved(-difference, thresholds.dtype)


def batchwise_threshold_backward(saved, dloss):
    r"""Every threshold by how many tokens too few it lets through.

    .. math:: \bar T_i = \sum_t (M^\mathrm{batch}_{ti} - M^\mathrm{thr}_{ti}) \, \bar L
    """
    return (saved.difference.sum(0) * dloss).astype(saved.dtype)


def _check(dims, probs, thresholds, *, k):
    if not 1 <= k <= dims.E:
        raise ValueError(f"batchwise_threshold: k={k} must be in 1 .. {dims.E} (probs has shape {tuple(probs.shape)})")


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for name, t, e in (("normal", 8, 4), ("uneven", 7, 3), ("one_token", 1, 4), ("one_expert", 5, 1), ("no_tokens", 0, 3)):
        probs = softmax(corpus.normal(rng, t, e)) if t else np.zeros((0, e))
        for k in sorted({1, max(1, e - 1), e}):
            case = Case(name, {"probs": probs, "thresholds": np.full(e, 0.9 / e)}, {}, frozenset({"empty"} if not t else ()))
            yield case.with_(f"k{k}", k=k)
    dyadic = {"probs": corpus.dyadic(rng, 8, 4, bits=4, high=1), "thresholds": np.array([0.25, 0.5, -2.0, 2.0])}
    yield Case("dyadic", dyadic, {"k": 2}, frozenset({"exact", "kink"}))
    yield Case("at_the_threshold", {"probs": np.full((4, 2), 0.5), "thresholds": np.full(2, 0.5)}, {"k": 1}, frozenset({"exact", "kink"}))


INVALID = (
    (Case("k_above_experts", {"probs": np.zeros((4, 3)), "thresholds": np.zeros(3)}, {"k": 4}), ValueError,
     r"batchwise_threshold: k=4 must be in 1 \.\. 3 \(probs has shape \(4, 3\)\)"),
    (Case("other_experts", {"probs": np.zeros((4, 3)), "thresholds": np.zeros(2)}, {"k": 1}), ValueError,
     r"batchwise_threshold: thresholds has shape \(2,\), but E must be 3"),
)


def _by_column(run):
    """Column by column: what lies above the threshold, less the m largest, each measured from the threshold."""
    x, limit = np.asarray(run.inputs["probs"], float), np.asarray(run.inputs["thresholds"], float)
    m = run.dims.k * run.dims.T // run.dims.E
    want = sum(np.maximum(x[:, i] - limit[i], 0).sum() - (np.sort(x[:, i])[::-1][:m] - limit[i]).sum()
               for i in range(run.dims.E))
    return near(run, run.outputs.loss, want, np.abs(x).sum() + run.dims.T * np.abs(limit).sum() + 1e-3)


def _count(run):
    x, limit = np.asarray(run.inputs["probs"], float), np.asarray(run.inputs["thresholds"], float)
    want = (run.dims.k * run.dims.T // run.dims.E - (x > limit).sum(0)) * np.asarray(run.cotangents["loss"], float)
    return np.abs(np.asarray(run.grads["thresholds"], float) - want) <= 2 * run.unit * np.abs(want)


REQUIREMENTS = (
    Req("BATCHWISE_THRESHOLD-1", "The loss is the excess above the thresholds less that of the m largest, over all experts.", _by_column),
    Req("BATCHWISE_THRESHOLD-2", "It is not negative.", lambda r: np.asarray(r.outputs.loss) >= -1e-5),
    Req("BATCHWISE_THRESHOLD-3", "The gradient of a threshold is m minus the number of tokens above it.", _count),
)

OP = Op(
    name="losses.batchwise_threshold",
    inputs=(Arg("probs", "T E", grad=False), Arg("thresholds", "E")),
    outputs=(LOSS,),
    forward=batchwise_threshold,
    backward=batchwise_threshold_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, E, **_: (4 * T * E, T * E),
    refs=("Shazeer et al. 2017, eqs 18-20",),
)
