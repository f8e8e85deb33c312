"""Tunable Gaussian noise on the logits (Shazeer et al. 2017, eq. 4)."""

from typing import NamedTuple

import numpy as np

from moespec import corpus
from moespec.numerics import expit, softplus, widen
from moespec.op import Arg, Case, Op, Req


class NoisyLogits(NamedTuple):
    """The logits that the selection sees, and the scale of their noise."""

    logits: np.ndarray      # T E
    sigma: np.ndarray       # T E


class Saved(NamedTuple):
    raw: np.ndarray         # T E
    noise: np.ndarray       # T E
    dtypes: tuple           # of clean and raw


def noisy_logits(clean, raw, noise, *, floor=0.01):
    r"""Add standard normal noise, scaled per token and expert.

    .. math:: \sigma_{ti} = \mathrm{softplus}(r_{ti}) + \mathrm{floor}, \qquad h_{ti} = c_{ti} + \epsilon_{ti} \sigma_{ti}

    The paper has no floor (0); its code adds 1e-2, which is the default here.

    Parameters
    ----------
    clean : (T, E) real
        c = x W_g.
    raw : (T, E) real
        r = x W_noise.
    noise : (T, E) real
        Standard normal, drawn by the caller; constant under differentiation.  0 in evaluation.
    floor : float
        Added to the scale, >= 0.

    Returns
    -------
    NoisyLogits(logits, sigma)
        In the dtype of `clean`.
    Saved
        raw, noise.

    Raises
    ------
    ValueError
        A negative floor.

    References
    ----------
    Shazeer et al. 2017, eq. 4.
    """
    OP.admit(clean, raw, noise, floor=floor)
    sigma = softplus(widen(raw)) + floor
    logits = widen(clean) + widen(noise) * sigma
    return NoisyLogits(logits.astype(clean.dtype), sigma.astype(clean.dtype)), Saved(raw, noise, (clean.dtype, raw.dtype))


def noisy_logits_backward(saved, dlogits, dsigma):
    r"""To the clean logits as it is; to the scale times the noise.

    .. math:: \bar c = \bar h, \qquad \bar r_{ti} = (\bar \sigma_{ti} + \epsilon_{ti} \bar h_{ti}) \, \mathrm{sigmoid}(r_{ti})
    """
    dclean = np.zeros(saved.raw.shape) if dlogits is None else widen(dlogits)
    scale = widen(saved.noise) * dclean
    scale = scale if dsigma is None else widen(dsigma) + scale
    return dclean.astype(saved.dtypes[0]), (scale * expit(widen(saved.raw))).astype(saved.dtypes[1])


def _check(dims, clean, raw, noise, *, floor=0.01):
    if not floor >= 0:
        raise ValueError(f"noisy_logits: floor={floor} must be at least 0 (clean has shape {tuple(clean.shape)})")


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for case in corpus.logits(rng):
        clean = case.inputs["logits"]
        raw, noise = corpus.normal(rng, *clean.shape, scale=2.0), corpus.normal(rng, *clean.shape)
        case = Case(case.name, {"clean": clean, "raw": raw, "noise": noise}, {}, case.tags)
        yield case
        yield case.with_("no_floor", floor=0.0)
    wide = {"clean": np.zeros((2, 4)), "raw": np.array([[-200.0, -90.0, 90.0, 200.0]] * 2), "noise": np.ones((2, 4))}
    yield Case("saturated", wide, {}, frozenset({"steep"}))


INVALID = (
    (Case("floor_negative", {n: np.zeros((2, 4)) for n in ("clean", "raw", "noise")}, {"floor": -0.1}), ValueError,
     r"noisy_logits: floor=-0.1 must be at least 0 \(clean has shape \(2, 4\)\)"),
    (Case("other_experts", {"clean": np.zeros((2, 4)), "raw": np.zeros((2, 4)), "noise": np.zeros((2, 3))}), ValueError,
     r"noisy_logits: noise has shape \(2, 3\), but E must be 4"),
)

REQUIREMENTS = (
    Req("NOISY_LOGITS-1", "Without noise the logits are the clean ones.",
        lambda r: (r.rerun(noise=np.zeros(r.inputs["noise"].shape)).logits == r.inputs["clean"]) | np.isnan(r.inputs["clean"])),
    Req("NOISY_LOGITS-2", "The scale is above the floor, and above the positive part of its raw value.",
        lambda r: np.asarray(r.outputs.sigma, float) * (1 + 4 * r.unit)
        >= r.attrs.get("floor", 0.01) + np.maximum(np.asarray(r.inputs["raw"], float), 0)),
    Req("NOISY_LOGITS-3", "Where the noise is 0 the scale has no part in the gradient of the logits.",
        lambda r: (r.inputs["noise"] != 0) | np.isfinite(np.asarray(r.grads["raw"], float)) | ~np.isfinite(np.asarray(r.inputs["clean"], float))),
)

OP = Op(
    name="gates.noisy_logits",
    inputs=(Arg("clean", "T E"), Arg("raw", "T E"), Arg("noise", "T E", grad=False)),
    outputs=(Arg("logits", "T E"), Arg("sigma", "T E")),
    forward=noisy_logits,
    backward=noisy_logits_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, E, **_: (7 * T * E, 6 * T * E),
    refs=("Shazeer et al. 2017, eq. 4",),
)
