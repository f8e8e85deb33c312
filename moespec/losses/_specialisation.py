"""Specialisation: the expected error of one expert picked by the gate (Jacobs et al. 1991, eq. 1.2)."""

from typing import NamedTuple

import numpy as np

from moespec.losses._checks import near, reals
from moespec.losses._cooperation import BLEND, LOSS, cases, invalid
from moespec.losses._mean import valid_mean
from moespec.numerics import acc, widen
from moespec.op import Op, Req


class Saved(NamedTuple):
    probs: np.ndarray       # T E
    outputs: np.ndarray     # T E C
    error: np.ndarray       # T E C   target - output of every expert
    squared: np.ndarray     # T E


def specialisation(probs, outputs, target):
    r"""Expected squared error of an expert that is picked with the gate's probability, averaged over tokens.

    .. math:: L = \frac{1}{T} \sum_t \sum_i p_{ti} \, \| d_t - o_{ti} \|^2

    Every expert is corrected for its own error alone: they compete.  It exceeds `cooperation` by the spread of the experts,
    :math:`\sum_i p_{ti} \|o_{ti} - y_t\|^2` with :math:`y_t = \sum_i p_{ti} o_{ti}`, exactly, where the gate sums to 1.

    Parameters
    ----------
    probs : (T, E) real
        The gate.
    outputs : (T, E, C) real
        Of the experts.
    target : (T, C) real
        Constant under differentiation.

    Returns
    -------
    loss : () real
        In the accumulation dtype; 0 with no tokens.
    Saved
        probs, outputs, errors.

    References
    ----------
    Jacobs et al. 1991, eq. 1.2.
    """
    OP.admit(probs, outputs, target)
    p = widen(probs)
    error = widen(target)[:, None, :] - widen(outputs)
    squared = (error * error).sum(2)
    return valid_mean((p * squared).sum(1)).astype(acc(probs)), Saved(probs, outputs, error, squared)


def specialisation_backward(saved, dloss):
    r"""The gate sees every expert's squared error, an expert its own error.

    .. math:: \bar p_{ti} = \tfrac{1}{T} \|d_t - o_{ti}\|^2 \bar L, \qquad
              \bar o_{ti} = -\tfrac{2}{T} p_{ti} (d_t - o_{ti}) \bar L
    """
    d = dloss / max(len(saved.squared), 1)
    doutputs = -2.0 * d * widen(saved.probs)[:, :, None] * saved.error
    return (d * saved.squared).astype(saved.probs.dtype), doutputs.astype(saved.outputs.dtype)


# ---- what is checked -------------------------------------------------------------------------------------------------

def _ambiguity(run):
    """E_specialisation - E_cooperation = sum of p |o - y|^2, where the gate sums to 1."""
    v, total, size = reals(run.inputs), 0.0, 0.0
    if np.any(np.abs(v["probs"].sum(1) - 1) > 1e-12):
        return None
    for p, o, d in zip(v["probs"], v["outputs"], v["target"], strict=True):
        y = p @ o
        total += ((d - y) ** 2).sum() + (p * ((o - y) ** 2).sum(1)).sum()
        size += (p * ((np.abs(d) + np.abs(o)) ** 2).sum(1)).sum()
    n = max(run.dims.T, 1)
    return near(run, run.outputs.loss, total / n, size / n)


REQUIREMENTS = (
    Req("SPECIALISATION-1", "It exceeds cooperation by the gate-weighted spread of the experts around the blend.", _ambiguity),
    Req("SPECIALISATION-2", "The gradient of the gate is not negative.", lambda r: ~(r.grads["probs"] * np.sign(r.cotangents["loss"]) < 0)),
)

OP = Op(
    name="losses.specialisation",
    inputs=BLEND,
    outputs=(LOSS,),
    forward=specialisation,
    backward=specialisation_backward,
    cases=cases,
    invalid=invalid("specialisation"),
    requirements=REQUIREMENTS,
    flops=lambda T, E, C, **_: (4 * T * E * C, 3 * T * E * C),
    refs=("Jacobs et al. 1991, eq. 1.2",),
)
