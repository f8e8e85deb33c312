"""The load loss: experts should get equally many tokens (Shazeer et al. 2017, eqs 8-11)."""

from typing import NamedTuple

import numpy as np

from moespec.losses._checks import near
from moespec.losses._cooperation import LOSS
from moespec.losses._cv2 import cv2, cv2_backward
from moespec.losses._load import LOGITS, ORDER, by_definition, cases, invalid, load, load_backward, require_load
from moespec.op import Arg, Op, Req


class LoadCv2(NamedTuple):
    """The loss, and the order of the noisy logits that the thresholds were taken from."""

    loss: np.ndarray        # ()
    order: np.ndarray       # T M


class Saved(NamedTuple):
    inner: NamedTuple       # of `load`
    load: np.ndarray        # E


def load_cv2(clean, sigma, noisy, order=None, *, k):
    r"""Squared coefficient of variation of the experts' load.

    .. math:: L = \mathrm{CV}^2(\mathrm{Load}), \qquad \mathrm{Load} \text{ as in } \texttt{losses.load}

    With the population variance: 0 for equal loads.  The gradient also flows through the threshold, which is another expert's
    noisy logit; without that path it is wrong.

    Parameters
    ----------
    clean, sigma, noisy : (T, E) real
        See `load`.
    order : (T, M) integer, optional
        See `load`.
    k : int
        Experts per token.

    Returns
    -------
    LoadCv2(loss, order)
        loss in the accumulation dtype, 0 with no tokens.
    Saved
        The load, and what `load` saves.

    Raises
    ------
    ValueError
        As `load`.

    References
    ----------
    Shazeer et al. 2017, eqs 8-11 (the coefficient w_load is the layer's).
    """
    OP.admit(clean, sigma, noisy, order, k=k)
    (loads, order), inner = load(clean, sigma, noisy, order, k=k)
    return LoadCv2(cv2(loads), order), Saved(inner, loads)


def load_cv2_backward(saved, dloss):
    r"""The gradient of CV^2, through the load.

    .. math:: \bar \ell_i = \Big( \frac{2 (\ell_i - m)}{E m^2} - \frac{2 s^2}{E m^3} \Big) \bar L
    """
    return load_backward(saved.inner, cv2_backward(saved.load, dloss))


def _check(dims, clean, sigma, noisy, order, *, k):
    require_load("load_cv2", sigma, order, k, dims.E)


# ---- what is checked -------------------------------------------------------------------------------------------------

def _definition(run):
    finite = all(np.isfinite(np.asarray(run.inputs[n], float)).all() for n in ("clean", "sigma", "noisy"))
    if not finite or run.dims.T == 0:
        return None
    v = by_definition(run, run.dims.k).sum(0)
    reach = 1 + np.abs(np.asarray(run.inputs["noisy"], float)).max() / np.asarray(run.inputs["sigma"], float).min()
    return near(run, run.outputs.loss, v.var() / v.mean() ** 2, reach * run.dims.E)


REQUIREMENTS = (
    Req("LOAD_CV2-1", "The loss is the population variance over the squared mean of the load.", _definition),
    Req("LOAD_CV2-2", "It is not negative, and 0 for k = E and with no tokens.",
        lambda r: (r.outputs.loss == 0) if r.dims.k == r.dims.E or not r.dims.T else ~(np.asarray(r.outputs.loss) < 0)),
)

OP = Op(
    name="losses.load_cv2",
    inputs=(*LOGITS, ORDER),
    outputs=(LOSS, Arg("order", "T M", "index", of="E")),
    forward=load_cv2,
    backward=load_cv2_backward,
    cases=cases,
    invalid=invalid("load_cv2"),
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, E, **_: (12 * T * E + 4 * E, 10 * T * E + 6 * E),
    refs=("Shazeer et al. 2017, eqs 8-11",),
)
