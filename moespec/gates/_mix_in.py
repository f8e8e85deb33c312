"""Mix the router state of the layer before into this layer's (Zaya)."""

from typing import NamedTuple

import numpy as np

from moespec import corpus
from moespec.numerics import widen
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    previous: np.ndarray    # T D
    scale: np.ndarray       # D
    dtype: np.dtype         # of h


def mix_in(h, previous, scale):
    r"""Add the previous layer's state, weighted by a learned vector.

    .. math:: y_{td} = h_{td} + g_d \, q_{td}

    The sum is both what the router goes on with and the state that the next layer mixes in: an exponential average over depth.

    Parameters
    ----------
    h : (T, D) real
    previous : (T, D) real
        q; a model may cut its gradient, this op does not.
    scale : (D,) real
        g, a parameter.

    Returns
    -------
    mixed : (T, D) real
        In the dtype of `h`.
    Saved

    References
    ----------
    Zaya1 2025 (exponential depth averaging, as in its published checkpoints' code).
    """
    OP.bind(h, previous, scale)
    return (widen(h) + widen(previous) * widen(scale)).astype(h.dtype), Saved(previous, scale, h.dtype)


def mix_in_backward(saved, dmixed):
    r"""A sum and a product.

    .. math:: \bar h = \bar y, \qquad \bar q_{td} = g_d \, \bar y_{td}, \qquad \bar g_d = \sum_t q_{td} \, \bar y_{td}
    """
    d, previous, scale = map(widen, (dmixed, saved.previous, saved.scale))
    return d.astype(saved.dtype), (d * scale).astype(saved.previous.dtype), (d * previous).sum(0).astype(saved.scale.dtype)


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for name, t, d in (("normal", 5, 4), ("one_token", 1, 7), ("odd_width", 6, 17), ("no_tokens", 0, 3)):
        yield Case(name, {"h": corpus.normal(rng, t, d), "previous": corpus.normal(rng, t, d), "scale": corpus.normal(rng, d)}, {},
                   frozenset({"empty"} if not t else ()))
    yield Case("integers", {"h": corpus.integers(rng, 9, 4), "previous": corpus.integers(rng, 9, 4), "scale": corpus.integers(rng, 4)}, {},
               frozenset({"exact"}))
    yield Case("long_sum", {"h": np.zeros((700, 1)), "previous": np.ones((700, 1)), "scale": np.ones(1)}, {}, frozenset({"exact"}))
    yield Case("nan", {"h": np.array([[1.0, np.nan, 2.0]]), "previous": np.array([[np.nan, 1.0, 1.0]]), "scale": np.ones(3)}, {}, frozenset({"nan"}))


_RIGHT = {"h": np.zeros((3, 4)), "previous": np.zeros((3, 4)), "scale": np.zeros(4)}
INVALID = (
    (Case("other_width", {**_RIGHT, "scale": np.zeros(5)}), ValueError, r"^mix_in: scale has shape \(5,\), but D must be 4"),
    (Case("other_tokens", {**_RIGHT, "previous": np.zeros((2, 4))}), ValueError, r"^mix_in: previous has shape \(2, 4\), but T must be 3"),
)


def _scale_gradient(run):
    """The gradient of the scale is, feature by feature, an inner product over tokens."""
    q, d, got = (np.asarray(a, float) for a in (run.inputs["previous"], run.cotangents["mixed"], run.grads["scale"]))
    for j in range(run.dims.D):
        terms = [a * b for a, b in zip(q[:, j], d[:, j], strict=True)]
        slack = 2 * run.unit * abs(sum(terms)) + len(terms) * 2.0**-23 * sum(map(abs, terms))
        if not np.isnan(terms).any() and not abs(got[j] - sum(terms)) <= slack:
            return False
    return True


REQUIREMENTS = (
    Req("MIX_IN-1", "A scale of 0 leaves the state as it is.",
        lambda r: (r.rerun(scale=np.zeros(r.dims.D)).mixed == r.inputs["h"]) | np.isnan(np.asarray(r.inputs["h"], float) + np.asarray(
            r.inputs["previous"], float))),
    Req("MIX_IN-2", "The gradient of the state is the cotangent itself.", lambda r: r.grads["h"] == r.cotangents["mixed"]),
    Req("MIX_IN-3", "The gradient of the scale is the inner product of previous state and cotangent over the tokens.", _scale_gradient),
)

OP = Op(
    name="gates.mix_in",
    inputs=(Arg("h", "T D"), Arg("previous", "T D"), Arg("scale", "D")),
    outputs=(Arg("mixed", "T D"),),
    forward=mix_in,
    backward=mix_in_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    flops=lambda T, D, **_: (2 * T * D, 3 * T * D),
    refs=("Zaya1 2025",),
)
