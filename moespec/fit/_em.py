"""Expectation maximisation: the hierarchical mixture of 1994, and its alternative gate."""

from __future__ import annotations

from math import prod

import numpy as np

from moespec.fit._data import above_zero, admit, variance, whole
from moespec.fit._experts import GaussianExperts, MultinomialExperts
from moespec.fit._gates import GaussianGate, TreeGate
from moespec.fit._mixture import Fit, Mixture
from moespec.fit._progress import bar
from moespec.gates._tree import is_branching

SURE = 0.9                  # of a token's first responsibility goes to one expert


def hme_em(x, y, branching, *, classes=None, degree=1, ridge=1e-3, floor=1e-3, iterations=100, tolerance=1e-6, restarts=1, rng=None,
           progress=False):
    r"""Fit a hierarchical mixture of experts by EM (Jordan and Jacobs 1994).

    The E step computes responsibilities; the M step fits experts by weighted least squares (classifiers by IRLS) and the softmax of
    every node by IRLS.  What never falls is the penalised log-likelihood

    .. math:: J = \sum_t \log \sum_i p_i(x_t) P_i(y_t \mid x_t) - \tfrac{\rho}{2} |V|^2
                  + \sum_i \Big( \tfrac{1}{2} \log \lambda_i - \tfrac{\lambda_i}{2} (\rho |W_i|^2 + s) \Big)

    (V of the gates, W and precision :math:`\lambda` of the experts, :math:`\rho` = ridge, s = floor times the variance of y; for
    classifiers :math:`-\tfrac{\rho}{2} |W_i|^2`).  Newton steps are halved until they do not go down, so it is a generalised EM.

    Parameters
    ----------
    x : (T, D) real
    y : (T, C) real, or (T,) integer labels with `classes`
    branching : sequence of int
        Children of a node of each level, from the root: (n,) is the flat mixture, (2, 2, 2) a binary tree of 8 experts.
    classes : int, optional
        Of the labels: experts are classifiers.
    degree : int
        Of the experts' polynomials; 1 is linear.
    ridge, floor : float
        Above 0.  The floor is a share of the variance of y; the variance of an expert that answers for a weight of n stays above
        s / (C n + 1).
    iterations, tolerance : int, float
        It ends when J rises by less than the tolerance times abs(J), or after so many iterations.
    restarts : int
        Starts; the one with the highest J is returned.
    rng : seed or generator
        Of the starts: the tokens nearest to E drawn tokens are each expert's own.
    progress : bool
        A bar on standard error.

    Returns
    -------
    Fit

    Raises
    ------
    ValueError
        Values that are not finite or beyond 1e100, labels out of range, no rows; a ridge, a floor or numbers that make no sense.
    """
    x, y, experts = expert_family("hme_em", x, y, leaves("hme_em", branching), classes, degree, ridge, floor)
    model = Mixture(TreeGate(tuple(branching), ridge), experts, "hme_em", x.shape[1], classes)
    return _best(model, x, y, iterations, tolerance, restarts, rng, progress)


def gaussian_em(x, y, n, *, classes=None, degree=1, ridge=1e-3, floor=1e-3, iterations=100, tolerance=1e-6, restarts=1, rng=None, progress=False):
    r"""Fit a mixture of n experts with a Gaussian gate by EM (Xu, Jordan and Hinton 1994): with Gaussian experts every step is closed.

    The likelihood is that of inputs and targets together,

    .. math:: J = \sum_t \log \sum_i a_i N(x_t; m_i, s_i) P_i(y_t \mid x_t) + \text{penalties},

    with the penalties of `hme_em` for experts, and for the gate: :math:`\rho \log a_i`, and for every feature
    :math:`\tfrac{1}{2} \log \lambda - \tfrac{\lambda}{2} (\rho (m - \bar x)^2 + \mathrm{floor} \, \mathrm{var}(x))`.  Parameters, returns and
    errors as in `hme_em`.
    """
    x, y, experts = expert_family("gaussian_em", x, y, n, classes, degree, ridge, floor)
    model = Mixture(gaussian_gate(x, n, ridge, floor), experts, "gaussian_em", x.shape[1], classes)
    return _best(model, x, y, iterations, tolerance, restarts, rng, progress)


def leaves(name, branching):
    """How many experts a tree has."""
    if not is_branching(branching):
        raise ValueError(f"{name}: branching={branching} must be numbers of children, each at least 1")
    return prod(branching)


def gaussian_gate(x, n, ridge, floor):
    """The parts of a Gaussian gate that depend on the inputs."""
    return GaussianGate(n, ridge, x.mean(0), floor * variance(x))


def expert_family(name, x, y, n, classes, degree, ridge, floor):
    """(x, y, the experts), everything checked."""
    x, y = admit(name, x, y, classes)
    whole(name, experts=(n, 1), degree=(degree, 0))
    above_zero(name, ridge=ridge, floor=floor)
    if classes is None:
        return x, y, GaussianExperts(n, degree, ridge, floor * float(variance(y).mean()))
    return x, y, MultinomialExperts(n, classes, degree, ridge)


def _best(model, x, y, iterations, tolerance, restarts, rng, progress):
    whole(model.name, iterations=(iterations, 1), restarts=(restarts, 1))
    if not tolerance >= 0:
        raise ValueError(f"{model.name}: tolerance={tolerance} must be at least 0")
    rng = np.random.default_rng(rng)
    return max((_em(model, x, y, iterations, tolerance, rng, progress) for _ in range(restarts)), key=lambda fit: fit.history[-1])


def _em(model, x, y, iterations, tolerance, rng, progress):
    params = {**model.gate.start(x), **model.experts.start(x, y)}
    params = model.maximise(params, x, y, first_posterior(x, model.gate.experts, rng))
    value, posterior = model.expect(params, x, y)
    history, converged = [value], False
    with bar(iterations, model.name, progress) as advance:
        while len(history) <= iterations and not converged:
            params = model.maximise(params, x, y, posterior)
            value, posterior = model.expect(params, x, y)
            converged = value - history[-1] <= tolerance * abs(value)
            history.append(value)
            advance()
    return Fit(model, params, np.array(history), bool(converged))


def first_posterior(x, n, rng):
    """[T, n]: the tokens nearest to one of n drawn tokens are mostly that expert's."""
    scaled = x / np.sqrt(variance(x))
    seeds = scaled[rng.choice(len(x), n, replace=len(x) < n)]
    nearest = ((scaled[:, None] - seeds) ** 2).sum(2).argmin(1)
    return (1 - SURE) / n + SURE * np.eye(n)[nearest]
