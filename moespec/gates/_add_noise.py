"""Noise of a fixed size, added to logits (V-MoE; Gumbel sampling)."""

from typing import NamedTuple

import numpy as np

from moespec import corpus
from moespec.numerics import widen
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    dtype: np.dtype


def add_noise(logits, noise, *, scale=1.0):
    r"""Add noise times a constant.

    .. math:: y_{ti} = l_{ti} + \mathrm{scale} \, \epsilon_{ti}

    With standard normal noise and scale 1/E this is V-MoE's router; with Gumbel noise and scale 1 the largest k are a sample without
    replacement from the softmax.  A scale that is learned is `noisy_logits`.

    Parameters
    ----------
    logits : (T, E) real
    noise : (T, E) real
        Drawn by the caller; constant under differentiation.
    scale : float

    Returns
    -------
    noisy : (T, E) real
        In the dtype of `logits`.
    Saved

    References
    ----------
    Riquelme et al. 2021, section 2.2; Kool et al. 2019 (Gumbel top-k).
    """
    OP.bind(logits, noise)
    return (widen(logits) + float(scale) * widen(noise)).astype(logits.dtype), Saved(logits.dtype)


def add_noise_backward(saved, dnoisy):
    r"""The noise is constant.

    .. math:: \bar l = \bar y
    """
    return dnoisy.astype(saved.dtype)


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    inputs = {"logits": corpus.normal(rng, 5, 8), "noise": corpus.normal(rng, 5, 8)}
    yield Case("normal", inputs, {"scale": 0.125})
    yield Case("gumbel", {**inputs, "noise": rng.gumbel(size=(5, 8))})
    yield Case("dyadic", {n: corpus.dyadic(rng, 5, 8) for n in inputs}, {"scale": -0.5}, frozenset({"exact"}))
    yield Case("no_noise", {**inputs, "noise": np.zeros((5, 8))}, {"scale": 2.0}, frozenset({"exact"}))
    yield Case("no_tokens", {n: np.zeros((0, 8)) for n in inputs}, {}, frozenset({"empty"}))
    yield Case("special", {"logits": np.array([[np.nan, np.inf, -np.inf]]), "noise": np.ones((1, 3))}, {}, frozenset({"nan", "inf", "exact"}))


INVALID = (
    (Case("noise_short", {"logits": np.zeros((3, 4)), "noise": np.zeros((2, 4))}), ValueError,
     r"^add_noise: noise has shape \(2, 4\), but T must be 3"),
)


def _difference(run):
    """What was added is the scale times the noise."""
    l, e, y = (np.asarray(a, float) for a in (run.inputs["logits"], run.inputs["noise"], run.outputs.noisy))
    added = run.attrs.get("scale", 1.0) * e
    return ~np.isfinite(l) | (np.abs(y - l - added) <= 2 * run.unit * (np.abs(l) + np.abs(added)))


REQUIREMENTS = (
    Req("ADD_NOISE-1", "What was added is the scale times the noise.", _difference),
    Req("ADD_NOISE-2", "The gradient of the logits is the cotangent: noise is constant.", lambda r: r.grads["logits"] == r.cotangents["noisy"]),
    Req("ADD_NOISE-3", "A scale of 0 changes nothing.",
        lambda r: np.array_equal(r.rerun(scale=0.0).noisy, r.inputs["logits"], equal_nan=True)),
)

OP = Op(
    name="gates.add_noise",
    inputs=(Arg("logits", "T E"), Arg("noise", "T E", grad=False)),
    outputs=(Arg("noisy", "T E"),),
    forward=add_noise,
    backward=add_noise_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    flops=lambda T, E, **_: (2 * T * E, 0),
    refs=("Riquelme et al. 2021, section 2.2", "Kool et al. 2019"),
)
