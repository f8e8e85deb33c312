"""The rectifier."""

import numpy as np

from moespec import numerics
from moespec.experts import _pointwise as pointwise
from moespec.experts._pointwise import Saved
from moespec.op import Op, Req


def relu(x):
    r"""Rectify.

    .. math:: y = \max(x, 0)

    Parameters
    ----------
    x : (N, F) real
        A NaN stays a NaN.

    Returns
    -------
    y : (N, F) real
        In the dtype of `x`; exact.
    Saved
        x.

    References
    ----------
    Shazeer et al. 2017, appendix C: the experts' hidden layer.
    """
    OP.admit(x)
    wide = numerics.widen(x)
    return value(wide).astype(x.dtype, copy=False), Saved(wide, x.dtype)


def relu_backward(saved, dy):
    r"""The derivative at 0 (and at a NaN) is 0.

    .. math:: \bar x = [x > 0] \, \bar y
    """
    return (slope(saved.x) * numerics.widen(dy)).astype(saved.dtype, copy=False)


def value(x):
    return np.maximum(x, 0.0)


def slope(x):
    return (x > 0).astype(x.dtype)


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for case in pointwise.cases(rng):                                    # no arithmetic: exact, whatever the values
        yield case._replace(tags=case.tags | {"exact"})
    yield from pointwise.exact_cases(rng, "kink")


REQUIREMENTS = (
    Req("RELU-1", "Positive entries pass unchanged, all others give 0.",
        lambda r: (r.outputs.y == np.where(r.inputs["x"] > 0, r.inputs["x"], 0)) | np.isnan(r.inputs["x"])),
    Req("RELU-2", "A NaN stays where it is, and nothing else becomes one.", pointwise.own_nan),
    Req("RELU-3", "The derivative is 1 above 0, and 0 elsewhere: at 0 and -0.0 too.",
        lambda r: r.grads["x"] == np.where(r.inputs["x"] > 0, r.cotangents["y"], 0)),
)

OP = Op(
    name="experts.relu",
    inputs=pointwise.INPUTS,
    outputs=pointwise.OUTPUTS,
    forward=relu,
    backward=relu_backward,
    cases=cases,
    invalid=pointwise.invalid("relu"),
    requirements=REQUIREMENTS,
    flops=lambda N, F, **_: (N * F, N * F),
    refs=("Shazeer et al. 2017, appendix C",),
)
