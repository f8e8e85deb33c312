"""Cooperation: the error of the blended output (Jacobs, Jordan, Nowlan and Hinton 1991, eq. 1.1)."""

from typing import NamedTuple

import numpy as np

from moespec import corpus
from moespec.losses._checks import near, reals
from moespec.losses._mean import valid_mean
from moespec.numerics import acc, widen
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    probs: np.ndarray       # T E
    outputs: np.ndarray     # T E C
    error: np.ndarray       # T C   target - blended output


def cooperation(probs, outputs, target):
    r"""Squared error of the experts' weighted sum, averaged over tokens.

    .. math:: L = \frac{1}{T} \sum_t \Big\| d_t - \sum_i p_{ti} o_{ti} \Big\|^2

    Every expert is corrected for what the others leave over: they learn to cooperate.  With no tokens the loss is 0.

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
        In the accumulation dtype.
    Saved
        probs, outputs, the error.

    References
    ----------
    Jacobs et al. 1991, eq. 1.1 (the paper writes it for one case: T = 1).
    """
    OP.admit(probs, outputs, target)
    p, o = widen(probs), widen(outputs)
    error = widen(target) - (p[:, :, None] * o).sum(1)
    return valid_mean((error * error).sum(1)).astype(acc(probs)), Saved(probs, outputs, error)


def cooperation_backward(saved, dloss):
    r"""Gate and experts see the error of the blend.

    .. math:: \bar p_{ti} = -\tfrac{2}{T} \langle e_t, o_{ti} \rangle \bar L, \qquad
              \bar o_{ti} = -\tfrac{2}{T} p_{ti} e_t \bar L, \qquad e_t = d_t - \sum_i p_{ti} o_{ti}
    """
    p, o = widen(saved.probs), widen(saved.outputs)
    d = -2.0 / max(len(p), 1) * dloss * saved.error[:, None, :]
    return (d * o).sum(2).astype(saved.probs.dtype), (p[:, :, None] * d).astype(saved.outputs.dtype)


# ---- what is checked -------------------------------------------------------------------------------------------------

SHAPES = (("normal", 5, 3, 2), ("one_token", 1, 4, 3), ("one_expert", 4, 1, 2), ("one_class", 3, 3, 1), ("no_tokens", 0, 3, 2))


def cases(rng):
    for name, t, e, c in SHAPES:
        tags = frozenset({"empty"} if not t else ())
        probs = np.exp(corpus.normal(rng, t, e))
        inputs = {"outputs": corpus.normal(rng, t, e, c), "target": corpus.normal(rng, t, c)}
        yield Case(name, {"probs": probs / probs.sum(1, keepdims=True), **inputs}, {}, tags)
    exact = {"outputs": corpus.integers(rng, 4, 3, 2) * 4, "target": corpus.integers(rng, 4, 2)}
    exact["probs"] = np.array([[0.5, 0.25, 0.25], [1, 0, 0]] * 2)
    yield Case("dyadic", exact, {}, frozenset({"exact"}))
    spoilt = corpus.normal(rng, 2, 3, 2)
    spoilt[1, 0] = np.nan
    yield Case("nan_output", {"probs": np.full((2, 3), 0.25), "outputs": spoilt, "target": np.zeros((2, 2))}, {}, frozenset({"nan"}))


def invalid(name):
    """The wrong shapes that the losses of a blend refuse."""
    right = {"probs": np.zeros((4, 3)), "outputs": np.zeros((4, 3, 2)), "target": np.zeros((4, 2))}
    return (
        (Case("other_experts", {**right, "outputs": np.zeros((4, 2, 2))}), ValueError,
         rf"{name}: outputs has shape \(4, 2, 2\), but E must be 3 \(E=3, probs has shape \(4, 3\)\)"),
        (Case("other_classes", {**right, "target": np.zeros((4, 1))}), ValueError, rf"{name}: target has shape \(4, 1\), but C must be 2"),
        (Case("no_target", {"probs": right["probs"], "outputs": right["outputs"]}), ValueError, rf"{name}: target is required"),
    )


def _by_token(run):
    v = reals(run.inputs)
    total = size = 0.0
    for t in range(run.dims.T):
        blend = sum((v["probs"][t, i] * v["outputs"][t, i] for i in range(run.dims.E)), np.zeros(run.dims.C))
        reach = sum((abs(v["probs"][t, i] * v["outputs"][t, i]) for i in range(run.dims.E)), np.abs(v["target"][t]))
        total, size = total + ((v["target"][t] - blend) ** 2).sum(), size + (reach**2).sum()
    n = max(run.dims.T, 1)
    return near(run, run.outputs.loss, total / n, size / n)


REQUIREMENTS = (
    Req("COOPERATION-1", "The loss is the mean over tokens of the squared error of the blended output.", _by_token),
    Req("COOPERATION-2", "It is not negative.", lambda r: ~(np.asarray(r.outputs.loss) < 0)),
)

BLEND = (Arg("probs", "T E"), Arg("outputs", "T E C"), Arg("target", "T C", grad=False))
LOSS = Arg("loss", "", like="acc")

OP = Op(
    name="losses.cooperation",
    inputs=BLEND,
    outputs=(LOSS,),
    forward=cooperation,
    backward=cooperation_backward,
    cases=cases,
    invalid=invalid("cooperation"),
    requirements=REQUIREMENTS,
    flops=lambda T, E, C, **_: (2 * T * E * C + 3 * T * C, 3 * T * E * C),
    refs=("Jacobs et al. 1991, eq. 1.1",),
)
