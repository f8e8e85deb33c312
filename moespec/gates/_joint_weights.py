"""Weights of routed and shared experts from one sum (Inkling)."""

from typing import NamedTuple

import numpy as np

from moespec import corpus
from moespec.numerics import widen
from moespec.op import Arg, Case, Op, Req


class JointWeights(NamedTuple):
    """Of the chosen experts, and of the shared ones."""

    weights: np.ndarray         # T K
    shared_weights: np.ndarray  # T M


class Saved(NamedTuple):
    chosen: np.ndarray      # T K, 0 where the index is -1
    shared: np.ndarray      # T M
    total: np.ndarray       # T 1
    live: np.ndarray        # T K
    scale: float
    dtypes: tuple           # of chosen and shared


def joint_weights(chosen, shared, indices, *, eps=0.0, scale=1.0):
    r"""Normalise the scores of the chosen and of the shared experts together.

    .. math:: N_t = \sum_{m : i_{tm} \ge 0} c_{tm} + \sum_m s_{tm} + \mathrm{eps}, \qquad
              w_{tj} = \mathrm{scale} \, c_{tj} / N_t, \qquad v_{tm} = \mathrm{scale} \, s_{tm} / N_t

    The shared experts are scored by the same router and compete for weight, not for selection.  With scores sigmoid(l) this is the
    softmax of log-sigmoids that the published code computes; only where every score of a token underflows does that form have finite
    weights, and this one 0/0.

    Parameters
    ----------
    chosen : (T, K) real
        Scores of the chosen experts.
    shared : (T, M) real
        Scores of the shared experts.
    indices : (T, K) integer
        -1: the entry is 0 and not summed.  A token without an expert divides its shared scores among themselves.
    eps, scale : float

    Returns
    -------
    JointWeights(weights, shared_weights)
        In the dtypes of `chosen` and of `shared`.
    Saved

    Raises
    ------
    ValueError
        A negative eps.

    References
    ----------
    Inkling 2026 (as in its published checkpoints' code).
    """
    dims = OP.admit(chosen, shared, indices, eps=eps)
    live = indices >= 0
    c, s = np.where(live, widen(chosen), 0.0), widen(shared)
    total = c.sum(1, keepdims=True) + s.sum(1, keepdims=True) + float(eps)
    total = total if dims.M else np.where(live.any(1, keepdims=True), total, 1.0)
    with np.errstate(all="ignore"):
        w, v = np.where(live, c / total * float(scale), 0.0), s / total * float(scale)
    found = JointWeights(w.astype(chosen.dtype), v.astype(shared.dtype))
    return found, Saved(c, s, total, live, float(scale), (chosen.dtype, shared.dtype))


def joint_weights_backward(saved, dweights, dshared_weights):
    r"""The quotient rule; every score is in the divisor of every weight.

    .. math:: Q_t = \frac{1}{N_t} \Big( \sum_m \bar w_{tm} c_{tm} + \sum_m \bar v_{tm} s_{tm} \Big), \qquad
              \bar c_{tj} = \frac{\mathrm{scale}}{N_t} (\bar w_{tj} - Q_t), \qquad \bar s_{tm} = \frac{\mathrm{scale}}{N_t} (\bar v_{tm} - Q_t)
    """
    dw = np.zeros(saved.chosen.shape) if dweights is None else np.where(saved.live, widen(dweights), 0.0)
    dv = np.zeros(saved.shared.shape) if dshared_weights is None else widen(dshared_weights)
    with np.errstate(all="ignore"):
        through = ((dw * saved.chosen).sum(1, keepdims=True) + (dv * saved.shared).sum(1, keepdims=True)) / saved.total
        dchosen = np.where(saved.live, (dw - through) / saved.total * saved.scale, 0.0)
        dshared = (dv - through) / saved.total * saved.scale
    return dchosen.astype(saved.dtypes[0]), dshared.astype(saved.dtypes[1])


def _check(dims, chosen, shared, indices, *, eps=0.0, scale=1.0):
    if not eps >= 0:
        raise ValueError(f"joint_weights: eps={eps} must be at least 0 (chosen has shape {tuple(chosen.shape)})")


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for case in corpus.routings(rng):
        t, k = case.inputs["indices"].shape
        case = case.add(chosen=rng.uniform(0.125, 1, (t, k)), shared=rng.uniform(0.125, 1, (t, 2)))
        yield case
        yield case.with_("scaled", scale=2.5, eps=1e-3)
    ids = np.array([[0, 1], [2, -1]])
    yield Case("dyadic", {"chosen": np.array([[0.5, 0.25], [0.75, 9.0]]), "shared": np.array([[0.25], [0.25]]), "indices": ids}, {"scale": 4.0},
               frozenset({"exact"}))
    yield Case("no_shared", {"chosen": rng.random((2, 2)) + 0.125, "shared": np.zeros((2, 0)), "indices": np.array([[0, 1], [-1, -1]])})
    yield Case("all_zero", {"chosen": np.zeros((1, 2)), "shared": np.zeros((1, 1)), "indices": ids[:1]}, {}, frozenset({"nan"}))
    yield Case("all_zero_eps", {"chosen": np.zeros((1, 2)), "shared": np.zeros((1, 1)), "indices": ids[:1]}, {"eps": 0.5})
    yield Case("nan_left_out", {"chosen": np.array([[0.5, 0.25], [0.75, np.nan]]), "shared": np.array([[np.nan], [0.25]]), "indices": ids}, {},
               frozenset({"nan"}))


_RIGHT = {"chosen": np.ones((2, 2)), "shared": np.ones((2, 1)), "indices": np.zeros((2, 2), int)}
INVALID = (
    (Case("eps_negative", _RIGHT, {"eps": -1.0}), ValueError, r"^joint_weights: eps=-1.0 must be at least 0 \(chosen has shape \(2, 2\)\)"),
    (Case("other_tokens", {**_RIGHT, "shared": np.ones((3, 1))}), ValueError, r"^joint_weights: shared has shape \(3, 1\), but T must be 2"),
)


def _sum_to_scale(run):
    if run.attrs.get("eps") or not run.dims.M:
        return None
    scale, entries = run.attrs.get("scale", 1.0), run.dims.K + run.dims.M
    total = np.asarray(run.outputs.weights, float).sum(1) + np.asarray(run.outputs.shared_weights, float).sum(1)
    return np.isnan(total) | (np.abs(total - scale) <= 2 * (entries + 2) * run.unit * scale)


def _like_log_sigmoids(run):
    """The published form: the softmax of log(score) over chosen and shared experts."""
    if run.attrs.get("eps"):
        return None
    c, s = (np.asarray(run.inputs[n], float) for n in ("chosen", "shared"))
    w, v = (np.asarray(a, float) for a in vars(run.outputs).values())
    for t, ids in enumerate(run.inputs["indices"]):
        logs = np.log([*c[t][ids >= 0], *s[t]])
        got = np.array([*w[t][ids >= 0], *v[t]])
        if len(logs) and np.isfinite(logs).all():
            want = run.attrs.get("scale", 1.0) * np.exp(logs - np.log(np.exp(logs - logs.max()).sum()) - logs.max())
            if not (np.abs(got - want) <= (len(logs) + 16) * run.unit * want).all():
                return False
    return True


REQUIREMENTS = (
    Req("JOINT_WEIGHTS-1", "Without an eps the weights of a token's chosen and shared experts sum to the scale.", _sum_to_scale),
    Req("JOINT_WEIGHTS-2", "They are the softmax of the logarithms of the scores.", _like_log_sigmoids),
    Req("JOINT_WEIGHTS-3", "An entry at -1 has weight 0 and gradient 0, whatever it and its token hold.",
        lambda r: (r.inputs["indices"] >= 0) | ((r.outputs.weights == 0) & (r.grads["chosen"] == 0))),
)

OP = Op(
    name="gates.joint_weights",
    inputs=(Arg("chosen", "T K"), Arg("shared", "T M"), Arg("indices", "T K", "index", of="E")),
    outputs=(Arg("weights", "T K"), Arg("shared_weights", "T M", like="shared")),
    forward=joint_weights,
    backward=joint_weights_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, K, M, **_: (3 * T * (K + M), 5 * T * (K + M)),
    refs=("Inkling 2026",),
)
