"""GELU, exact."""

import math

import numpy as np

from moespec import numerics
from moespec.experts import _pointwise as pointwise
from moespec.experts._pointwise import Saved
from moespec.op import Op, Req


def gelu(x):
    r"""Weigh every entry by the normal distribution function.

    .. math:: y = x \, \Phi(x) = \tfrac12 x \left(1 + \mathrm{erf}(x / \sqrt 2)\right)

    Parameters
    ----------
    x : (N, F) real
        A NaN stays a NaN.

    Returns
    -------
    y : (N, F) real
        In the dtype of `x`; :math:`\Phi` is held to absolute, not to relative accuracy.
    Saved
        x.

    References
    ----------
    Hendrycks & Gimpel 2016, section 2.
    """
    OP.admit(x)
    wide = numerics.widen(x)
    return value(wide).astype(x.dtype, copy=False), Saved(wide, x.dtype)


def gelu_backward(saved, dy):
    r"""With the normal density :math:`\varphi = \Phi'`.

    .. math:: \bar x = (\Phi(x) + x \, \varphi(x)) \, \bar y
    """
    return (slope(saved.x) * numerics.widen(dy)).astype(saved.dtype, copy=False)


def value(x):
    return x * numerics.ndtr(x)


def slope(x):
    return numerics.ndtr(x) + x * numerics.normal_pdf(x)


# ---- what is checked -------------------------------------------------------------------------------------------------

def _by_erf(run):
    x, y = np.asarray(run.inputs["x"], float), np.asarray(run.outputs.y, float)
    want = x * np.vectorize(lambda v: math.erfc(-v / math.sqrt(2)) / 2, otypes=[float])(x)
    return np.isnan(x) | (np.abs(y - want) <= 8 * run.unit * np.abs(x) + run.unit * 2.0**-10)


REQUIREMENTS = (
    Req("GELU-1", "The function is the exact one, with erf, not its tanh approximation.", _by_erf),
    Req("GELU-2", "gelu(x) - gelu(-x) = x.", pointwise.mirrored),
    Req("GELU-3", "At zeros of either sign the value is 0 and the derivative 1/2.", pointwise.half_at_zero),
    Req("GELU-4", "A NaN stays where it is, and nothing else becomes one.", pointwise.own_nan),
)

OP = Op(
    name="experts.gelu",
    inputs=pointwise.INPUTS,
    outputs=pointwise.OUTPUTS,
    forward=gelu,
    backward=gelu_backward,
    cases=pointwise.smooth_cases,
    invalid=pointwise.invalid("gelu"),
    requirements=REQUIREMENTS,
    flops=lambda N, F, **_: (5 * N * F, 10 * N * F),
    refs=("Hendrycks & Gimpel 2016, section 2",),
)
