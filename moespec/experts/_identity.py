"""The identity, the activation of bilinear and of linear experts."""

import numpy as np

from moespec.experts import _pointwise as pointwise
from moespec.op import Op, Req


def identity(x):
    r"""Return the pre-activations as they are, bit for bit.

    .. math:: y = x

    Parameters
    ----------
    x : (N, F) real

    Returns
    -------
    y : (N, F) real
        `x` itself.
    None
        Nothing is saved.

    References
    ----------
    Shazeer 2020, eq. 5: as the activation of `glu` it makes the bilinear layer.
    """
    OP.admit(x)
    return x, None


def identity_backward(saved, dy):
    r"""As it came: :math:`\bar x = \bar y`."""
    return dy


def value(x):
    return x


def slope(x):
    return np.ones(x.shape, x.dtype)


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for case in pointwise.cases(rng):                                    # no arithmetic: exact, whatever the values
        yield case._replace(tags=case.tags | {"exact"})
    yield from pointwise.exact_cases(rng)


REQUIREMENTS = (
    Req("IDENTITY-1", "The output is the input, bit for bit (-0.0 and NaN included).",
        lambda r: r.outputs.y.tobytes() == r.inputs["x"].tobytes()),
)

OP = Op(
    name="experts.identity",
    inputs=pointwise.INPUTS,
    outputs=pointwise.OUTPUTS,
    forward=identity,
    backward=identity_backward,
    cases=cases,
    invalid=pointwise.invalid("identity"),
    requirements=REQUIREMENTS,
    flops=lambda **_: (0, 0),
    refs=("Shazeer 2020, eq. 5",),
)
