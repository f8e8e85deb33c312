"""SiLU (swish): the gate of SwiGLU experts."""

import numpy as np

from moespec import numerics
from moespec.experts import _pointwise as pointwise
from moespec.experts._pointwise import Saved
from moespec.op import Op, Req


def silu(x):
    r"""Weigh every entry by its own logistic function.

    .. math:: y = x \, \sigma(x), \qquad \sigma(x) = 1 / (1 + e^{-x})

    Parameters
    ----------
    x : (N, F) real
        A NaN stays a NaN.  Where exp(-x) overflows the result is 0.

    Returns
    -------
    y : (N, F) real
        In the dtype of `x`; the logistic function is held to absolute, not to relative accuracy.
    Saved
        x.

    References
    ----------
    Elfwing et al. 2017, eq. 2; Ramachandran et al. 2017 (Swish with beta = 1).
    """
    OP.admit(x)
    wide = numerics.widen(x)
    return value(wide).astype(x.dtype, copy=False), Saved(wide, x.dtype)


def silu_backward(saved, dy):
    r"""In the form that everybody computes: 1 - s is a difference.

    .. math:: \bar x = s \, (1 + x (1 - s)) \, \bar y, \qquad s = \sigma(x)
    """
    return (slope(saved.x) * numerics.widen(dy)).astype(saved.dtype, copy=False)


def value(x):
    return x * numerics.expit(x)


def slope(x):
    s = numerics.expit(x)
    return s * (1 + x * (1 - s))


# ---- what is checked -------------------------------------------------------------------------------------------------

REQUIREMENTS = (
    Req("SILU-1", "silu(x) - silu(-x) = x.", pointwise.mirrored),
    Req("SILU-2", "At zeros of either sign the value is 0 and the derivative 1/2.", pointwise.half_at_zero),
    Req("SILU-3", "Values lie between -0.2785 and max(x, 0).",
        lambda r: np.isnan(r.inputs["x"]) | (np.asarray(r.outputs.y, float) >= -0.2785 * (1 + r.unit))
        & (r.outputs.y <= np.maximum(r.inputs["x"], 0))),
    Req("SILU-4", "A NaN stays where it is, and nothing else becomes one.", pointwise.own_nan),
)

OP = Op(
    name="experts.silu",
    inputs=pointwise.INPUTS,
    outputs=pointwise.OUTPUTS,
    forward=silu,
    backward=silu_backward,
    cases=pointwise.smooth_cases,
    invalid=pointwise.invalid("silu"),
    requirements=REQUIREMENTS,
    flops=lambda N, F, **_: (4 * N * F, 8 * N * F),
    refs=("Elfwing et al. 2017, eq. 2", "Ramachandran et al. 2017"),
)
