"""The squared rectifier."""

import numpy as np

from moespec import numerics
from moespec.experts import _pointwise as pointwise
from moespec.experts._pointwise import Saved
from moespec.op import Op, Req


def relu2(x):
    r"""Rectify, then square.

    .. math:: y = \max(x, 0)^2

    Parameters
    ----------
    x : (N, F) real
        A NaN stays a NaN.

    Returns
    -------
    y : (N, F) real
        In the dtype of `x`, squared in float32 at least.
    Saved
        x.

    References
    ----------
    So et al. 2021 (Primer), section 4.
    """
    OP.admit(x)
    wide = numerics.widen(x)
    return value(wide).astype(x.dtype, copy=False), Saved(wide, x.dtype)


def relu2_backward(saved, dy):
    r"""Continuous, 0 at 0.

    .. math:: \bar x = 2 \max(x, 0) \, \bar y
    """
    return (slope(saved.x) * numerics.widen(dy)).astype(saved.dtype, copy=False)


def value(x):
    return np.square(np.maximum(x, 0.0))


def slope(x):
    return 2.0 * np.maximum(x, 0.0)


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    yield from pointwise.cases(rng)
    yield from pointwise.exact_cases(rng, "kink")                        # of the derivative


def _square(run):
    x, y = np.asarray(run.inputs["x"], float), np.asarray(run.outputs.y, float)
    return np.isnan(x) | (np.abs(y - np.where(x > 0, x * x, 0)) <= 2 * run.unit * x * x + run.unit * 2.0**-10)


REQUIREMENTS = (
    Req("RELU2-1", "A positive entry gives its square, any other 0.", _square),
    Req("RELU2-2", "Entries that are not positive get a gradient of exactly 0.",
        lambda r: ~(r.inputs["x"] <= 0) | (r.grads["x"] == 0)),
    Req("RELU2-3", "A NaN stays where it is, and nothing else becomes one.", pointwise.own_nan),
)

OP = Op(
    name="experts.relu2",
    inputs=pointwise.INPUTS,
    outputs=pointwise.OUTPUTS,
    forward=relu2,
    backward=relu2_backward,
    cases=cases,
    invalid=pointwise.invalid("relu2"),
    requirements=REQUIREMENTS,
    flops=lambda N, F, **_: (2 * N * F, 3 * N * F),
    refs=("So et al. 2021",),
)
