"""The Gaussian gate: normalised kernels (Xu, Jordan and Hinton 1994)."""

from typing import NamedTuple

import numpy as np

from moespec import corpus
from moespec.numerics import acc, widen
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    error: np.ndarray       # T E D   token - mean
    precisions: np.ndarray  # E D
    dtypes: tuple           # of the inputs


def gaussian(x, means, log_precisions, log_priors):
    r"""Logits of a gate whose experts each own a Gaussian of the tokens: the log of prior times density.

    .. math:: l_{ti} = \log a_i + \tfrac{1}{2} \sum_d \log \lambda_{id} - \tfrac{1}{2} \sum_d \lambda_{id} (x_{td} - m_{id})^2

    Their softmax is the gate :math:`a_i N(x; m_i, \lambda_i^{-1}) / \sum_j a_j N(x; m_j, \lambda_j^{-1})`.  The covariances are
    diagonal; the constant :math:`-\tfrac{D}{2} \log 2 \pi`, the same for every expert, is left out.

    Parameters
    ----------
    x : (T, D) real
    means : (E, D) real
    log_precisions : (E, D) real
        Logarithms of the inverse variances.
    log_priors : (E,) real
        They need not be normalised; -inf shuts an expert out.

    Returns
    -------
    logits : (T, E) real
        In the accumulation dtype of `x`, as a router's.
    Saved
        Distances and precisions.

    Notes
    -----
    A NaN spreads as in the formula: of a token over its row, of an expert over its column.

    References
    ----------
    Xu, Jordan & Hinton 1994, eq. 5.
    """
    OP.admit(x, means, log_precisions, log_priors)
    error, log_precision = widen(x)[:, None, :] - widen(means), widen(log_precisions)
    with np.errstate(all="ignore"):
        precision = np.exp(log_precision)
        logits = widen(log_priors) + 0.5 * log_precision.sum(1) - 0.5 * (precision * (error * error)).sum(2)
    return logits.astype(acc(x)), Saved(error, precision, tuple(a.dtype for a in (x, means, log_precisions, log_priors)))


def gaussian_backward(saved, dlogits):
    r"""Means are pulled to their tokens, and tokens to the means.

    .. math:: \bar m_{id} = \sum_t \bar l_{ti} \lambda_{id} (x_{td} - m_{id}), \qquad
              \bar x_{td} = - \sum_i \bar l_{ti} \lambda_{id} (x_{td} - m_{id}), \qquad
              \overline{\log \lambda}_{id} = \tfrac{1}{2} \sum_t \bar l_{ti} \big(1 - \lambda_{id} (x_{td} - m_{id})^2\big), \qquad
              \overline{\log a}_i = \sum_t \bar l_{ti}
    """
    d = widen(dlogits)
    with np.errstate(all="ignore"):
        pull = d[:, :, None] * (saved.precisions * saved.error)
        share = d.sum(0)
        dlog_precisions = 0.5 * (share[:, None] - (pull * saved.error).sum(0))
    found = -pull.sum(1), pull.sum(0), dlog_precisions, share
    return tuple(a.astype(dtype) for a, dtype in zip(found, saved.dtypes, strict=True))


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for name, t, e, d in (("normal", 6, 3, 4), ("one_token", 1, 4, 2), ("one_expert", 5, 1, 3), ("one_feature", 7, 3, 1),
                          ("no_tokens", 0, 3, 2), ("many", 33, 65, 5), ("wide", 3, 2, 129)):
        inputs = {"x": corpus.normal(rng, t, d), "means": corpus.normal(rng, e, d), "log_precisions": corpus.normal(rng, e, d),
                  "log_priors": np.log(rng.dirichlet(np.ones(e)))}
        case = Case(name, inputs, {}, frozenset({"empty"} if not t else ()))
        yield case
    yield case.add("exact", ("exact",), x=corpus.integers(rng, 3, 129), means=corpus.integers(rng, 2, 129), log_precisions=np.zeros((2, 129)),
                   log_priors=corpus.integers(rng, 2))
    x, means = corpus.normal(rng, 4, 2), corpus.normal(rng, 3, 2)
    inputs = {"x": x, "means": means, "log_precisions": np.zeros((3, 2)), "log_priors": np.zeros(3)}
    yield Case("far_tokens", {**inputs, "x": x + 60.0}, {}, frozenset({"steep"}))
    yield Case("narrow", {**inputs, "log_precisions": np.full((3, 2), 6.0)}, {}, frozenset({"steep"}))
    yield Case("at_the_means", {**inputs, "x": means[[0, 1, 2, 0]], "log_precisions": corpus.normal(rng, 3, 2)})
    yield Case("shut_expert", {**inputs, "log_priors": np.array([0.0, -np.inf, 1.0])}, {}, frozenset({"inf"}))
    spoilt = x.copy()
    spoilt[1, 0] = np.nan
    yield Case("nan_token", {**inputs, "x": spoilt}, {}, frozenset({"nan"}))


_RIGHT = {"x": np.zeros((4, 2)), "means": np.zeros((3, 2)), "log_precisions": np.zeros((3, 2)), "log_priors": np.zeros(3)}
INVALID = (
    (Case("other_features", {**_RIGHT, "means": np.zeros((3, 5))}), ValueError, r"^gaussian: means has shape \(3, 5\), but D must be 2"),
    (Case("one_precision", {**_RIGHT, "log_precisions": np.zeros((1, 2))}), ValueError,
     r"^gaussian: log_precisions has shape \(1, 2\), but E must be 3"),
    (Case("priors_by_token", {**_RIGHT, "log_priors": np.zeros((4, 3))}), ValueError,
     r"^gaussian: log_priors has shape \(4, 3\), wanted 1 dimension"),
)


def _bayes(run):
    """Differences of a token's logits are log ratios of prior times density, the densities by a product over features."""
    v = {n: np.asarray(a, float) for n, a in run.inputs.items()}
    if not all(np.isfinite(a).all() for a in v.values()) or not run.dims.T:
        return None
    spread = np.exp(-v["log_precisions"] / 2)
    z = (v["x"][:, None] - v["means"]) / spread
    want = v["log_priors"] - np.log(spread).sum(1) - (z**2).sum(2) / 2
    size = np.abs(v["log_priors"]) + np.abs(v["log_precisions"]).sum(1) + (((np.abs(v["x"][:, None]) + np.abs(v["means"])) / spread) ** 2).sum(2)
    got = np.asarray(run.outputs.logits, float)
    slack = (16 + run.dims.D) * min(run.unit, 2.0**-24) * (1 + np.abs(v["log_precisions"]).max()) * (1 + size)
    return np.abs((got - got[:, :1]) - (want - want[:, :1])) <= slack + slack[:, :1]


def _moves_together(run):
    """Tokens and means shifted alike change nothing: their gradients cancel."""
    dx, dm = (np.asarray(run.grads[n], float) for n in ("x", "means"))
    d = np.abs(np.asarray(run.cotangents["logits"], float))
    v = {n: np.asarray(a, float) for n, a in run.inputs.items()}
    if not all(np.isfinite(a).all() for a in v.values()):
        return None
    size = np.einsum("te,ed,ted->d", d, np.exp(v["log_precisions"]), np.abs(v["x"][:, None]) + np.abs(v["means"]))
    return np.abs(dx.sum(0) + dm.sum(0)) <= (run.dims.T + run.dims.E + 16) * run.unit * (size + 1)


REQUIREMENTS = (
    Req("GAUSSIAN-1", "Differences of a token's logits are the log ratios of prior times density.", _bayes),
    Req("GAUSSIAN-2", "The gradients of tokens and of means add up to 0: moving both changes nothing.", _moves_together),
)

OP = Op(
    name="gates.gaussian",
    inputs=(Arg("x", "T D"), Arg("means", "E D"), Arg("log_precisions", "E D"), Arg("log_priors", "E")),
    outputs=(Arg("logits", "T E", like="acc"),),
    forward=gaussian,
    backward=gaussian_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    flops=lambda T, E, D, **_: (T * E * (4 * D + 2), T * E * (7 * D + 2)),
    refs=("Xu, Jordan & Hinton 1994, eq. 5",),
)
