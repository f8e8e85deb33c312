"""Add a bias: one vector for the output of a whole layer."""

from typing import NamedTuple

import numpy as np

from moespec.dispatch._tokens import beside, near
from moespec.numerics import widen
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    dtypes: tuple           # of x, of b


def add_bias(x, b):
    r"""Add the same vector to every token: once to the layer's output, whatever its experts and their weights.

    .. math:: y_t = x_t + b

    Parameters
    ----------
    x : (T, D) real
        NaN and infinities follow IEEE arithmetic.
    b : (D,) real

    Returns
    -------
    y : (T, D) real
        In the dtype of `x`; added in float32 at least.
    Saved
        The dtypes.

    References
    ----------
    Shen et al. 2024 (JetMoE), the output bias of its expert layers.
    """
    OP.admit(x, b)
    return (widen(x) + widen(b)).astype(x.dtype), Saved((x.dtype, b.dtype))


def add_bias_backward(saved, dy):
    r"""The sum over the tokens: :math:`\bar x = \bar y, \quad \bar b = \sum_t \bar y_t`."""
    d = widen(dy)
    return d.astype(saved.dtypes[0]), d.sum(0).astype(saved.dtypes[1])


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    yield from beside(rng, "x", "b", lambda t, d: (d,))
    x = np.ones((300, 2))                                             # a bfloat16 sum of ones sticks at 256
    yield Case("long_sum", {"x": x, "b": np.array([1.0, -2.0])}, {}, frozenset({"exact"}))


INVALID = (
    (Case("other_width", {"x": np.zeros((4, 3)), "b": np.zeros(4)}), ValueError,
     r"^add_bias: b has shape \(4,\), but D must be 3 \(D=3, x has shape \(4, 3\)\)"),
    (Case("bias_per_token", {"x": np.zeros((4, 3)), "b": np.zeros((4, 3))}), ValueError,
     r"^add_bias: b has shape \(4, 3\), wanted 1 dimensions \(D\)"),
)


def _sum(run):
    x, b = np.asarray(run.inputs["x"], float), np.asarray(run.inputs["b"], float)
    return near(run, run.outputs.y, x + b, np.abs(x) + np.abs(b), 2)


def _column_sums(run):
    dy = np.asarray(run.cotangents["y"], float)
    return near(run, run.grads["b"], dy.sum(0), np.abs(dy).sum(0), run.dims.T + 2)


REQUIREMENTS = (
    Req("ADD_BIAS-1", "Each entry is the sum of the token's and the bias's.", _sum),
    Req("ADD_BIAS-2", "A token of zeros becomes the bias.",
        lambda r: r.rerun(x=np.zeros((r.dims.T, r.dims.D))).y == r.inputs["b"]),
    Req("ADD_BIAS-3", "The bias gets the sum of the tokens' cotangents.", _column_sums),
    Req("ADD_BIAS-4", "A token gets its cotangent.", lambda r: r.grads["x"] == r.cotangents["y"]),
)

OP = Op(
    name="dispatch.add_bias",
    inputs=(Arg("x", "T D"), Arg("b", "D")),
    outputs=(Arg("y", "T D"),),
    forward=add_bias,
    backward=add_bias_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    flops=lambda T, D, **_: (T * D, T * D),
    refs=("Shen et al. 2024 (JetMoE)",),
)
