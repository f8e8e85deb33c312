"""Scale all weights by one learned number (Inkling's global scale)."""

from typing import NamedTuple

import numpy as np

from moespec import corpus
from moespec.numerics import widen
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    weights: np.ndarray     # T K
    scale: np.ndarray       # ()


def scale_weights(weights, scale):
    r"""Multiply every weight by a learned scalar.

    .. math:: y_{tj} = g \, w_{tj}

    Parameters
    ----------
    weights : (T, K) real
    scale : () real
        A parameter; a constant scale is an attribute of `renormalize`.

    Returns
    -------
    scaled : (T, K) real
        In the dtype of `weights`.
    Saved

    References
    ----------
    Inkling 2026 (as in its published checkpoints' code).
    """
    OP.bind(weights, scale)
    return (widen(weights) * widen(scale)).astype(weights.dtype), Saved(weights, scale)


def scale_weights_backward(saved, dscaled):
    r"""The scale gets one number from the whole batch.

    .. math:: \bar w_{tj} = g \, \bar y_{tj}, \qquad \bar g = \sum_{t, j} w_{tj} \bar y_{tj}
    """
    d, weights, scale = map(widen, (dscaled, saved.weights, saved.scale))
    return (d * scale).astype(saved.weights.dtype), (d * weights).sum().astype(saved.scale.dtype)


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    yield Case("normal", {"weights": rng.random((6, 2)), "scale": np.array(1.3)})
    yield Case("negative", {"weights": rng.random((3, 4)), "scale": np.array(-0.7)})
    yield Case("zero", {"weights": rng.random((3, 2)), "scale": np.array(0.0)})
    yield Case("integers", {"weights": corpus.integers(rng, 9, 2), "scale": np.array(3.0)}, {}, frozenset({"exact"}))
    yield Case("long_sum", {"weights": np.ones((700, 1)), "scale": np.array(1.0)}, {}, frozenset({"exact"}))     # bfloat16 sums stick at 256
    yield Case("no_tokens", {"weights": np.zeros((0, 2)), "scale": np.array(2.0)}, {}, frozenset({"empty"}))
    yield Case("nan_weight", {"weights": np.array([[1.0, np.nan]]), "scale": np.array(2.0)}, {}, frozenset({"nan"}))


INVALID = (
    (Case("scale_of_one_entry", {"weights": np.zeros((2, 2)), "scale": np.ones(1)}), ValueError,
     r"^scale_weights: scale has shape \(1,\), wanted 0 dimensions"),
)


def _sum(run):
    """The gradient of the scale is the inner product of weights and cotangents, by a loop."""
    w, d = (np.asarray(a, float).ravel().tolist() for a in (run.inputs["weights"], run.cotangents["scaled"]))
    terms = [a * b for a, b in zip(w, d, strict=True)]
    got = float(run.grads["scale"])
    return bool(np.isnan(terms).any()) or abs(got - sum(terms)) <= 2 * run.unit * abs(sum(terms)) + len(terms) * 2.0**-23 * sum(map(abs, terms))


REQUIREMENTS = (
    Req("SCALE_WEIGHTS-1", "A scale of 1 changes nothing.",
        lambda r: np.array_equal(r.rerun(scale=np.ones(())).scaled, r.inputs["weights"], equal_nan=True)),
    Req("SCALE_WEIGHTS-2", "The gradient of the scale is the sum over all tokens and choices of weight times cotangent.", _sum),
    Req("SCALE_WEIGHTS-3", "A weight of 0 stays 0 under a finite scale.", lambda r: (r.inputs["weights"] != 0) | (r.outputs.scaled == 0)),
)

OP = Op(
    name="gates.scale_weights",
    inputs=(Arg("weights", "T K"), Arg("scale", "")),
    outputs=(Arg("scaled", "T K"),),
    forward=scale_weights,
    backward=scale_weights_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    flops=lambda T, K, **_: (T * K, 3 * T * K),
    refs=("Inkling 2026",),
)
