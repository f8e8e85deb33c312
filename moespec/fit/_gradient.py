"""Gradient fitting: L-BFGS over the ops' own backward."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from moespec.fit._data import above_zero, whole
from moespec.fit._em import expert_family, first_posterior, gaussian_gate, leaves
from moespec.fit._gates import EqualGate, TreeGate
from moespec.fit._mixture import BLENDS, Fit, Mixture
from moespec.fit._progress import bar

GATES = ("tree", "gaussian", "equal")


def gradient(x, y, branching, *, gate="tree", loss="likelihood", classes=None, degree=1, ridge=1e-3, floor=1e-3, iterations=500, tolerance=1e-9,
             start=None, rng=None, progress=False):
    """Fit a mixture by L-BFGS: the objective and its gradient come from the ops' forward and backward.

    Parameters
    ----------
    x, y, branching, classes, degree, ridge, floor, rng, progress
        As in `hme_em`.
    gate : str
        ``tree``, ``gaussian`` (of as many experts as the tree has leaves; the likelihood is then that of `gaussian_em`), or ``equal``:
        every expert weighs the same.
    loss : str
        ``likelihood``: climbs the J of `hme_em`.  ``cooperation`` (eq. 1.1 of 1991) or ``specialisation`` (1.2): climbs minus half the sum
        of errors, less the ridge; precisions stay 1.
    iterations, tolerance : int, float
        Of L-BFGS; the tolerance is on the relative change.
    start : dict, optional
        Parameters to begin with, such as those of a fit by EM; by default one M step from the start of `hme_em`.

    Returns
    -------
    Fit

    Raises
    ------
    ValueError
        As `hme_em`; an unknown gate or loss; a blend of classifiers; a start that lacks a parameter, has another shape or is not finite.
    """
    n = leaves("gradient", branching)
    x, y, experts = expert_family("gradient", x, y, n, classes, degree, ridge, floor)
    _known(gate, loss, classes)
    whole("gradient", iterations=(iterations, 1))
    above_zero("gradient", tolerance=tolerance)
    parts = {"tree": lambda: TreeGate(tuple(branching), ridge), "gaussian": lambda: gaussian_gate(x, n, ridge, floor), "equal": lambda: EqualGate(n)}
    model = Mixture(parts[gate](), experts, "gradient", x.shape[1], classes)
    first = {**model.gate.start(x), **model.experts.start(x, y)}
    if start is None:
        params = model.maximise(first, x, y, first_posterior(x, n, np.random.default_rng(rng)))
    else:
        params = _matching(start, first)
    if loss in BLENDS:
        params["experts.log_precisions"] = np.zeros(n)
    return _climb(model, params, x, y, loss, iterations, tolerance, progress)


def _known(gate, loss, classes):
    if gate not in GATES:
        raise ValueError(f"gradient: gate={gate!r} is none of {', '.join(GATES)}")
    if loss not in ("likelihood", *BLENDS):
        raise ValueError(f"gradient: loss={loss!r} is none of likelihood, {', '.join(BLENDS)}")
    if loss in BLENDS and classes is not None:
        raise ValueError(f"gradient: loss={loss!r} is of real targets, but classes={classes}")


def _matching(start, first):
    for name, array in first.items():
        if name not in start or np.shape(start[name]) != array.shape:
            raise ValueError(f"gradient: start has {name} of shape {np.shape(start.get(name))}, wanted {array.shape}")
        if not np.isfinite(start[name]).all():
            raise ValueError(f"gradient: start has values in {name} that are not finite (shape {array.shape})")
    return {name: np.asarray(start[name], np.float64) for name in first}


def _climb(model, params, x, y, loss, iterations, tolerance, progress):
    free = [name for name in params if not (loss in BLENDS and name == "experts.log_precisions")]
    sizes = np.cumsum([params[name].size for name in free])[:-1]

    def unpacked(flat):
        return {**params, **{n: part.reshape(params[n].shape) for n, part in zip(free, np.split(flat, sizes), strict=True)}}

    def descent(flat):
        value, grads = model.objective(unpacked(flat), x, y, loss)
        return -value, -np.concatenate([grads[name].ravel() for name in free])

    flat = np.concatenate([params[name].ravel() for name in free])
    history = [-descent(flat)[0]]
    with bar(iterations, model.name, progress) as advance:
        def record(intermediate_result):
            history.append(-intermediate_result.fun)
            advance()
        found = minimize(descent, flat, jac=True, method="L-BFGS-B", callback=record,
                         options={"maxiter": iterations, "maxfun": 4 * iterations, "ftol": tolerance, "gtol": 1e-8})
    return Fit(model, unpacked(found.x), np.array(history), bool(found.success))
