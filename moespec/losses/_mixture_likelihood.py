"""The likelihood of any mixture, and which expert answers for which token: the E step (Jordan and Jacobs 1994)."""

from typing import NamedTuple

import numpy as np

from moespec import corpus
from moespec.losses._checks import near, reals
from moespec.losses._cooperation import LOSS
from moespec.losses._mean import valid_mean
from moespec.numerics import acc, logsumexp, softmax, widen
from moespec.op import Arg, Case, Op, Req


class MixtureLikelihood(NamedTuple):
    """The loss, and the responsibilities."""

    loss: np.ndarray        # ()
    posterior: np.ndarray   # T E


class Saved(NamedTuple):
    prior: np.ndarray       # T E     the gate
    posterior: np.ndarray   # T E
    dtypes: tuple           # of logits and evidence


def mixture_likelihood(logits, evidence):
    r"""Negative log-likelihood of a mixture of any experts, averaged over tokens, and the posterior of the experts.

    .. math:: L = -\frac{1}{T} \sum_t \log \sum_i p_{ti} \exp v_{ti}, \qquad
              h_{ti} = \frac{p_{ti} \exp v_{ti}}{\sum_j p_{tj} \exp v_{tj}}, \qquad p_t = \mathrm{softmax}(s_t)

    The evidence v is each expert's log-likelihood of the target, of whatever family (`gaussian_log_likelihood`, a log-softmax at the
    label); the logits are those of whatever gate: with `gates.tree` this is the likelihood of the hierarchical mixture, with
    `gates.gaussian` that of the alternative gate.  In log-sum-exp form: evidence far below 0 does not underflow.

    Parameters
    ----------
    logits : (T, E) real
        Of the gate.
    evidence : (T, E) real
        Log-likelihoods; -inf: the expert rules the target out.

    Returns
    -------
    MixtureLikelihood(loss, posterior)
        The loss in the accumulation dtype, 0 with no tokens; the posterior [T, E] in the dtype of `logits`.
    Saved
        Prior and posterior.

    Notes
    -----
    A token that every expert rules out has the loss inf and the posterior NaN (IEEE).

    References
    ----------
    Jordan & Jacobs 1994, eqs 13-15; Jacobs et al. 1991, eq. 1.3.
    """
    OP.admit(logits, evidence)
    s = widen(logits)
    with np.errstate(invalid="ignore"):
        joint = s - logsumexp(s, axis=1)[:, None] + widen(evidence)
    prior, posterior = softmax(s, axis=1), softmax(joint, axis=1)
    loss = -valid_mean(logsumexp(joint, axis=1))
    return (MixtureLikelihood(loss.astype(acc(logits)), posterior.astype(logits.dtype)),
            Saved(prior, posterior, (logits.dtype, evidence.dtype)))


def mixture_likelihood_backward(saved, dloss, dposterior):
    r"""To the evidence the posterior, and through the posterior the Jacobian of a softmax; the gate's normaliser takes off the prior's share.

    .. math:: \bar v_{ti} = -\tfrac{1}{T} h_{ti} \bar L + h_{ti} \Big(\bar h_{ti} - \sum_j h_{tj} \bar h_{tj}\Big), \qquad
              \bar s_{ti} = \bar v_{ti} - p_{ti} \sum_j \bar v_{tj}
    """
    h = saved.posterior
    d = np.zeros_like(h)
    with np.errstate(invalid="ignore"):
        if dposterior is not None:
            dh = widen(dposterior)
            d = h * (dh - (h * dh).sum(1, keepdims=True))
        if dloss is not None:
            d = d - dloss / max(len(h), 1) * h
        dlogits = d - saved.prior * d.sum(1, keepdims=True)
    return dlogits.astype(saved.dtypes[0]), d.astype(saved.dtypes[1])


def _check(dims, logits, evidence):
    if not dims.E:
        raise ValueError(f"mixture_likelihood: no experts (logits has shape {tuple(logits.shape)})")


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for name, t, e in (("normal", 6, 3), ("one_token", 1, 4), ("one_expert", 5, 1), ("no_tokens", 0, 3), ("many_experts", 3, 65), ("many", 129, 4)):
        yield Case(name, {"logits": corpus.normal(rng, t, e), "evidence": corpus.normal(rng, t, e)}, {}, frozenset({"empty"} if not t else ()))
    inputs = {"logits": corpus.normal(rng, 4, 3), "evidence": corpus.normal(rng, 4, 3)}
    yield Case("all_equal", {"logits": np.full((3, 4), 0.5), "evidence": np.full((3, 4), -2.0)})
    yield Case("far_below", {**inputs, "evidence": inputs["evidence"] - 300.0}, {}, frozenset({"steep"}))
    yield Case("sure_gate", {**inputs, "logits": np.array([[0.0, -80.0, -90.0]] * 4)}, {}, frozenset({"steep"}))
    yield Case("gate_and_evidence_disagree", {"logits": np.array([[0.0, -60.0]] * 3), "evidence": np.array([[-90.0, 0.0]] * 3)}, {},
               frozenset({"steep"}))
    yield Case("ruled_out", {**inputs, "evidence": np.where(np.eye(4, 3) > 0, -np.inf, inputs["evidence"])}, {}, frozenset({"inf"}))
    yield Case("ruled_out_by_all", {**inputs, "evidence": np.where(np.arange(4)[:, None] == 1, -np.inf, inputs["evidence"])}, {},
               frozenset({"inf", "nan"}))
    spoilt = inputs["evidence"].copy()
    spoilt[2, 1] = np.nan
    yield Case("nan_evidence", {**inputs, "evidence": spoilt}, {}, frozenset({"nan"}))


_RIGHT = {"logits": np.zeros((4, 3)), "evidence": np.zeros((4, 3))}
INVALID = (
    (Case("other_experts", {**_RIGHT, "evidence": np.zeros((4, 2))}), ValueError,
     r"^mixture_likelihood: evidence has shape \(4, 2\), but E must be 3"),
    (Case("other_tokens", {**_RIGHT, "evidence": np.zeros((3, 3))}), ValueError,
     r"^mixture_likelihood: evidence has shape \(3, 3\), but T must be 4"),
)


def _by_token(run):
    v = reals(run.inputs)
    if not all(np.isfinite(a).all() for a in v.values()):
        return None
    total = size = 0.0
    for s, e in zip(v["logits"], v["evidence"], strict=True):
        p = np.exp(s - s.max()) / np.exp(s - s.max()).sum()
        total -= e.max() + np.log((p * np.exp(e - e.max())).sum()) if (p * np.exp(e - e.max())).sum() > 1e-300 else np.nan
        size += np.abs(s).max() + np.abs(e).max() + 1
    n = max(run.dims.T, 1)
    return np.isnan(total) | near(run, run.outputs.loss, total / n, size / n)


def _roundings(run):
    """Of a sum over experts: one each, and those of the exponent, since exp(joint - lse) is off by that many units."""
    reach = sum(np.abs(a[np.isfinite(a)]).max(initial=0.0) for a in reals(run.inputs).values())
    return (run.dims.E + 16) * run.unit + 4 * reach * min(run.unit, 2.0**-24)


def _rows_sum_to_one(run):
    total = np.asarray(run.outputs.posterior, float).sum(1)
    return np.isnan(total) | (np.abs(total - 1) <= _roundings(run))


def _gate_cancels(run):
    """A common shift of a token's logits changes nothing."""
    d = np.asarray(run.grads["logits"], float)
    size = np.abs(d).sum(1) + np.abs(np.asarray(run.grads["evidence"], float)).sum(1)
    return np.isnan(d).any(1) | (np.abs(d.sum(1)) <= _roundings(run) * size + 1e-7 * (run.dtype == "float16"))


REQUIREMENTS = (
    Req("MIXTURE_LIKELIHOOD-1", "The loss is the mean over tokens of -log of the gate-weighted sum of the likelihoods.", _by_token),
    Req("MIXTURE_LIKELIHOOD-2", "The responsibilities of a token sum to 1.", _rows_sum_to_one),
    Req("MIXTURE_LIKELIHOOD-3", "The gradients of a token's logits sum to 0.", _gate_cancels),
)

OP = Op(
    name="losses.mixture_likelihood",
    inputs=(Arg("logits", "T E"), Arg("evidence", "T E")),
    outputs=(LOSS, Arg("posterior", "T E")),
    forward=mixture_likelihood,
    backward=mixture_likelihood_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, E, **_: (12 * T * E, 9 * T * E),
    refs=("Jordan & Jacobs 1994, eqs 13-15",),
)
