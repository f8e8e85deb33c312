"""How likely each expert thinks the target: a Gaussian around its output, of its own width."""

from typing import NamedTuple

import numpy as np

from moespec import corpus
from moespec.losses._checks import near, reals
from moespec.losses._cooperation import SHAPES
from moespec.numerics import acc, constant, widen
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    error: np.ndarray       # T E C   target - output
    precision: np.ndarray   # E
    dtypes: tuple           # of outputs and log_precisions


def gaussian_log_likelihood(outputs, target, log_precisions):
    r"""Log-density of the target under every expert: isotropic, with a precision that is learned.

    .. math:: v_{ti} = \tfrac{C}{2} (\log \lambda_i - \log 2 \pi) - \tfrac{\lambda_i}{2} \|d_t - o_{ti}\|^2

    The evidence of `mixture_likelihood`.  With all log_precisions equal to -2 log sigma, that loss is `mixture_nll` plus the constant
    :math:`\tfrac{C}{2} \log 2 \pi \sigma^2`, which `mixture_nll` leaves out.

    Parameters
    ----------
    outputs : (T, E, C) real
        Of the experts.
    target : (T, C) real
        Constant under differentiation.
    log_precisions : (E,) real
        Logarithms of the inverse variances.

    Returns
    -------
    evidence : (T, E) real
        In the accumulation dtype.
    Saved
        Errors and precisions.

    References
    ----------
    Jordan & Jacobs 1994, section 2; with a variance of its own for every expert, as in Xu, Jordan & Hinton 1994.
    """
    OP.admit(outputs, target, log_precisions)
    error, log_precision = widen(target)[:, None, :] - widen(outputs), widen(log_precisions)
    with np.errstate(all="ignore"):
        precision = np.exp(log_precision)
        log_2_pi = np.log(constant(2 * np.pi, log_precision))             # rounded, in whatever a kernel computes in
        evidence = 0.5 * error.shape[2] * (log_precision - log_2_pi) - 0.5 * (precision * (error * error).sum(2))
    return evidence.astype(acc(outputs)), Saved(error, precision, (outputs.dtype, log_precisions.dtype))


def gaussian_log_likelihood_backward(saved, devidence):
    r"""An output is pulled to the target; a precision grows while the mean squared error is below the variance.

    .. math:: \bar o_{ti} = \bar v_{ti} \lambda_i (d_t - o_{ti}), \qquad
              \overline{\log \lambda}_i = \sum_t \bar v_{ti} \Big(\tfrac{C}{2} - \tfrac{\lambda_i}{2} \|d_t - o_{ti}\|^2\Big)
    """
    d, classes = widen(devidence), saved.error.shape[2]
    with np.errstate(all="ignore"):
        doutputs = (d * saved.precision)[:, :, None] * saved.error
        squared = (saved.error * saved.error).sum(2)
        dlog_precisions = 0.5 * classes * d.sum(0) - 0.5 * saved.precision * (d * squared).sum(0)
    return doutputs.astype(saved.dtypes[0]), dlog_precisions.astype(saved.dtypes[1])


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for name, t, e, c in (*SHAPES, ("many_experts", 2, 65, 3), ("many", 129, 3, 33)):
        inputs = {"outputs": corpus.normal(rng, t, e, c), "target": corpus.normal(rng, t, c), "log_precisions": corpus.normal(rng, e)}
        yield Case(name, inputs, {}, frozenset({"empty"} if not t else ()))
    inputs = {"outputs": corpus.normal(rng, 4, 3, 2), "target": corpus.normal(rng, 4, 2), "log_precisions": np.array([-2.0, 0.0, 2.0])}
    yield Case("at_the_target", {**inputs, "outputs": np.repeat(inputs["target"][:, None], 3, 1)})
    yield Case("far_target", {**inputs, "target": inputs["target"] + 60.0}, {}, frozenset({"steep"}))
    yield Case("narrow", {**inputs, "log_precisions": np.full(3, 6.0)}, {}, frozenset({"steep"}))
    spoilt = inputs["outputs"].copy()
    spoilt[1, 2, 0] = np.nan
    yield Case("nan_output", {**inputs, "outputs": spoilt}, {}, frozenset({"nan"}))


_RIGHT = {"outputs": np.zeros((4, 3, 2)), "target": np.zeros((4, 2)), "log_precisions": np.zeros(3)}
INVALID = (
    (Case("other_tokens", {**_RIGHT, "target": np.zeros((3, 2))}), ValueError,
     r"^gaussian_log_likelihood: target has shape \(3, 2\), but T must be 4"),
    (Case("precision_by_class", {**_RIGHT, "log_precisions": np.zeros(2)}), ValueError,
     r"^gaussian_log_likelihood: log_precisions has shape \(2,\), but E must be 3"),
)


def _by_class(run):
    """The logarithm of a product of normal densities, class by class."""
    v = reals(run.inputs)
    sigma = np.exp(-v["log_precisions"] / 2)[:, None]
    z = (v["target"][:, None] - v["outputs"]) / sigma
    reach = (np.abs(v["target"][:, None]) + np.abs(v["outputs"])) / sigma
    want = (-np.log(sigma * np.sqrt(2 * np.pi)) - z**2 / 2).sum(2)
    return near(run, run.outputs.evidence, want, (reach**2 + np.abs(np.log(sigma)) + 1).sum(2) * (1 + np.abs(v["log_precisions"])))


def _still_at_the_target(run):
    """An expert that is right is not moved."""
    at = np.asarray(run.inputs["target"], float)[:, None] == np.asarray(run.inputs["outputs"], float)
    return ~at | (np.asarray(run.grads["outputs"], float) == 0)


REQUIREMENTS = (
    Req("GAUSSIAN_LOG_LIKELIHOOD-1", "The evidence is the log of the product of the classes' normal densities.", _by_class),
    Req("GAUSSIAN_LOG_LIKELIHOOD-2", "An output that equals its target gets gradient 0.", _still_at_the_target),
)

OP = Op(
    name="losses.gaussian_log_likelihood",
    inputs=(Arg("outputs", "T E C"), Arg("target", "T C", grad=False), Arg("log_precisions", "E")),
    outputs=(Arg("evidence", "T E", like="acc"),),
    forward=gaussian_log_likelihood,
    backward=gaussian_log_likelihood_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    flops=lambda T, E, C, **_: (T * E * (3 * C + 5), T * E * (4 * C + 4)),
    refs=("Jordan & Jacobs 1994, section 2",),
)
