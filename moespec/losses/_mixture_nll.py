"""The likelihood of the target under a mixture of Gaussians, one per expert (Jacobs et al. 1991, eq. 1.3)."""

from typing import NamedTuple

import numpy as np

from moespec import corpus
from moespec.losses._checks import near, reals
from moespec.losses._cooperation import LOSS, SHAPES
from moespec.losses._mean import valid_mean
from moespec.numerics import acc, logsumexp, softmax, widen
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    outputs: np.ndarray     # T E C
    dtype: np.dtype         # of the logits
    error: np.ndarray       # T E C   target - output
    prior: np.ndarray       # T E     the gate
    posterior: np.ndarray   # T E     responsibilities
    sigma: float


def mixture_nll(logits, outputs, target, *, sigma=1.0):
    r"""Negative log-likelihood of a mixture of Gaussians around the experts' outputs, averaged over tokens.

    .. math:: L = -\frac{1}{T} \sum_t \log \sum_i p_{ti} \exp\Big(-\frac{\|d_t - o_{ti}\|^2}{2 \sigma^2}\Big), \qquad
              p_t = \mathrm{softmax}(s_t)

    Computed from the gate's logits in log-sum-exp form, so that targets far from every expert do not underflow.  The Gaussian's
    constant :math:`\tfrac{C}{2} \log 2 \pi \sigma^2` is left out, as in the paper.

    Parameters
    ----------
    logits : (T, E) real
        Of the gate.
    outputs : (T, E, C) real
        Of the experts.
    target : (T, C) real
        Constant under differentiation.
    sigma : float
        Standard deviation of every expert, > 0; 1 in the paper.

    Returns
    -------
    loss : () real
        In the accumulation dtype; 0 with no tokens.
    Saved
        Errors, prior and posterior.

    Raises
    ------
    ValueError
        sigma is not positive.

    References
    ----------
    Jacobs et al. 1991, eq. 1.3.
    """
    OP.admit(logits, outputs, target, sigma=sigma)
    s, error = widen(logits), widen(target)[:, None, :] - widen(outputs)
    joint = s - logsumexp(s, axis=1)[:, None] - (error * error).sum(2) / (2.0 * sigma**2)
    loss = -valid_mean(logsumexp(joint, axis=1))
    return loss.astype(acc(logits)), Saved(outputs, logits.dtype, error, softmax(s, axis=1), softmax(joint, axis=1), sigma)


def mixture_nll_backward(saved, dloss):
    r"""Prior minus posterior to the gate; to each expert its error, weighted by its responsibility.

    .. math:: \bar s_{ti} = \tfrac{1}{T} (p_{ti} - h_{ti}) \bar L, \qquad
              \bar o_{ti} = -\tfrac{1}{T \sigma^2} h_{ti} (d_t - o_{ti}) \bar L, \qquad
              h_{ti} = \frac{p_{ti} e_{ti}}{\sum_j p_{tj} e_{tj}}

    Unlike `specialisation`, which scales by the prior, the best expert learns fastest.
    """
    p, h = saved.prior, saved.posterior
    d = dloss / max(len(p), 1)
    dlogits = d * (p * h.sum(1, keepdims=True) - h)                 # sum(h) = 1 up to rounding, as in everybody's autograd
    doutputs = -d / saved.sigma**2 * h[:, :, None] * saved.error
    return dlogits.astype(saved.dtype), doutputs.astype(saved.outputs.dtype)


def _check(dims, logits, outputs, target, *, sigma=1.0):
    if not sigma > 0:
        raise ValueError(f"mixture_nll: sigma={sigma} must be above 0 (outputs has shape {tuple(outputs.shape)})")


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for name, t, e, c in SHAPES:
        inputs = {"logits": corpus.normal(rng, t, e), "outputs": corpus.normal(rng, t, e, c), "target": corpus.normal(rng, t, c)}
        case = Case(name, inputs, {}, frozenset({"empty"} if not t else ()))
        yield case
        yield case.with_("narrow", sigma=0.5)
        yield case.with_("wide", sigma=3.0)
    inputs = {"logits": corpus.normal(rng, 4, 3), "outputs": corpus.normal(rng, 4, 3, 2), "target": corpus.normal(rng, 4, 2) + 60.0}
    yield Case("far_target", inputs, {}, frozenset({"steep"}))
    yield Case("far_target_narrow", inputs, {"sigma": 0.25}, frozenset({"large"}))
    sure = {"logits": np.array([[0.0, -80.0, -90.0]] * 4), "target": inputs["outputs"][:, 1]}
    yield Case("sure_gate", {**inputs, **sure}, {}, frozenset({"steep"}))
    shut = np.array([[0.0, -np.inf, 1.0]] * 4)
    yield Case("shut_expert", {**inputs, "logits": shut, "target": inputs["target"] - 60}, {}, frozenset({"inf"}))
    spoilt = inputs["outputs"].copy()
    spoilt[2, 1] = np.nan
    yield Case("nan_output", {**inputs, "outputs": spoilt, "target": inputs["target"] - 60}, {}, frozenset({"nan"}))


RIGHT = {"logits": np.zeros((4, 3)), "outputs": np.zeros((4, 3, 2)), "target": np.zeros((4, 2))}
INVALID = (
    (Case("sigma_zero", RIGHT, {"sigma": 0.0}), ValueError, r"mixture_nll: sigma=0.0 must be above 0 \(outputs has shape \(4, 3, 2\)\)"),
    (Case("sigma_nan", RIGHT, {"sigma": float("nan")}), ValueError, r"mixture_nll: sigma=nan must be above 0"),
    (Case("other_tokens", {**RIGHT, "target": np.zeros((3, 2))}), ValueError, r"mixture_nll: target has shape \(3, 2\), but T must be 4"),
)


def _between(run):
    """-log of a mixture lies between the best expert's term and that minus the log of its prior."""
    v = reals(run.inputs)
    if not all(np.isfinite(a).all() for a in v.values()):
        return None
    low = high = size = 0.0
    for s, o, d in zip(v["logits"], v["outputs"], v["target"], strict=True):
        log_p = s - s.max() - np.log(np.exp(s - s.max()).sum())
        terms = -log_p + ((d - o) ** 2).sum(1) / (2 * run.attrs.get("sigma", 1.0) ** 2)
        low, high, size = low + terms.min() - np.log(len(s)), high + terms.min(), size + np.abs(terms).max() + 1
    n, slack = max(run.dims.T, 1), 64 * min(run.unit, 2.0**-24)
    return (low / n - slack * size <= run.outputs.loss) & (run.outputs.loss <= high / n + slack * size)


def _gate_sums_to_zero(run):
    """Prior and posterior both sum to 1: the gradients of a token's logits cancel."""
    if any(not np.isfinite(np.asarray(a, float)).all() for a in run.inputs.values()):
        return None
    d = np.asarray(run.grads["logits"], float)
    return np.abs(d.sum(1)) <= 8 * run.unit * (np.abs(d).sum(1) + np.abs(np.asarray(run.cotangents["loss"], float)) / max(len(d), 1))


def _one_expert(run):
    if run.dims.E > 1:
        return None
    v = reals(run.inputs)
    squared = ((v["target"] - v["outputs"][:, 0]) ** 2).sum()
    return near(run, run.outputs.loss, squared / (2 * run.attrs.get("sigma", 1.0) ** 2) / max(run.dims.T, 1))


REQUIREMENTS = (
    Req("MIXTURE_NLL-1", "The loss is finite where the inputs are, between the best expert's term and that less log E.", _between),
    Req("MIXTURE_NLL-2", "The gradients of a token's logits sum to 0.", _gate_sums_to_zero),
    Req("MIXTURE_NLL-3", "With one expert it is half the squared error over sigma^2.",
        _one_expert),
)

OP = Op(
    name="losses.mixture_nll",
    inputs=(Arg("logits", "T E"), Arg("outputs", "T E C"), Arg("target", "T C", grad=False)),
    outputs=(LOSS,),
    forward=mixture_nll,
    backward=mixture_nll_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, E, C, **_: (T * E * (3 * C + 12), T * E * (2 * C + 4)),
    refs=("Jacobs et al. 1991, eq. 1.3",),
)
