"""Add: what the routed and the shared experts give a token, as a sum or as a mean."""

from typing import NamedTuple

import numpy as np

from moespec import corpus
from moespec.dispatch._tokens import beside, near
from moespec.numerics import widen
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    scale: float
    dtypes: tuple           # of a, of b


def add(a, b, *, scale=1.0):
    r"""Add two branches of a layer and scale the sum.

    .. math:: y_t = \mathrm{scale} \, (a_t + b_t)

    Parameters
    ----------
    a, b : (T, D) real
        NaN and infinities follow IEEE arithmetic.
    scale : float
        1 adds the shared experts, 0.5 takes the mean of both branches (Cohere 2).

    Returns
    -------
    y : (T, D) real
        In the dtype of `a`; added and scaled in float32 at least, rounded once.
    Saved
        The scale.

    References
    ----------
    Dai et al. 2024 (DeepSeekMoE), eq. 9: shared experts.
    """
    OP.admit(a, b, scale=scale)
    y = widen(a) + widen(b)
    return (y * float(scale)).astype(a.dtype), Saved(float(scale), (a.dtype, b.dtype))


def add_backward(saved, dy):
    r"""The same to both: :math:`\bar a = \bar b = \mathrm{scale} \, \bar y`."""
    d = widen(dy) * saved.scale
    return tuple(d.astype(dtype) for dtype in saved.dtypes)


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for case in beside(rng, "a", "b", lambda t, d: (t, d)):
        yield case
        yield case.with_("mean", scale=0.5)
    yield Case("scale_three", {"a": corpus.normal(rng, 4, 3), "b": corpus.normal(rng, 4, 3)}, {"scale": 3.0})
    a = corpus.integers(rng, 3, 4, high=7)
    yield Case("cancels", {"a": a, "b": -a}, {}, frozenset({"exact"}))
    large = np.array([[256.0, 2048.0]])                                # plus 1: lost in bfloat16, in float16, if rounded before it is scaled
    yield Case("rounded_once", {"a": large, "b": np.ones((1, 2))}, {"scale": 3.0}, frozenset({"exact"}))


INVALID = (
    (Case("other_tokens", {"a": np.zeros((4, 3)), "b": np.zeros((5, 3))}), ValueError,
     r"^add: b has shape \(5, 3\), but T must be 4 \(T=4, a has shape \(4, 3\)\)"),
    (Case("other_width", {"a": np.zeros((4, 3)), "b": np.zeros((4, 2))}), ValueError, r"^add: b has shape \(4, 2\), but D must be 3"),
    (Case("integers", {"a": np.zeros((4, 3), int), "b": np.zeros((4, 3))}), TypeError, r"^add: a has dtype int64"),
)


def _near(run, got):
    a, b, scale = np.asarray(run.inputs["a"], float), np.asarray(run.inputs["b"], float), run.attrs.get("scale", 1.0)
    return near(run, got, a * scale + b * scale, scale * (np.abs(a) + np.abs(b)), 4)


REQUIREMENTS = (
    Req("ADD-1", "Each entry is the scaled sum of the two.", lambda r: _near(r, r.outputs.y)),
    Req("ADD-2", "The order of the two does not matter.", lambda r: _near(r, r.rerun(a=r.inputs["b"], b=r.inputs["a"]).y)),
    Req("ADD-3", "The mean of an array with itself is that array.",
        lambda r: np.array_equal(r.rerun(b=r.inputs["a"], scale=0.5).y, r.inputs["a"], equal_nan=True)),
    Req("ADD-4", "Both get the same gradient, at a scale of 1 the cotangent itself.",
        lambda r: (r.grads["a"] == r.grads["b"]) & ((r.attrs.get("scale", 1.0) != 1) | (r.grads["a"] == r.cotangents["y"]))),
)

OP = Op(
    name="dispatch.add",
    inputs=(Arg("a", "T D"), Arg("b", "T D")),
    outputs=(Arg("y", "T D"),),
    forward=add,
    backward=add_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    flops=lambda T, D, **_: (2 * T * D, T * D),
    refs=("Dai et al. 2024 (DeepSeekMoE), eq. 9",),
)
