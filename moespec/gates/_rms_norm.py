"""Root-mean-square norm: in front of a router, around latent experts (Zhang and Sennrich 2019)."""

from typing import NamedTuple

import numpy as np

from moespec import corpus
from moespec.numerics import widen
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    x: np.ndarray           # T D
    scale: np.ndarray | None    # D, as it is stored
    gain: np.ndarray | None     # D, the offset added
    inverse: np.ndarray     # T 1   1 / rms of what is divided
    attrs: tuple            # factor, before


def rms_norm(x, scale=None, *, eps=1e-6, factor=1.0, offset=0.0, before=False):
    r"""Divide every row by its root mean square.

    .. math:: y_{td} = \mathrm{factor} \, \frac{x_{td}}{\sqrt{\tfrac{1}{D} \sum_m x_{tm}^2 + \mathrm{eps}}} \, g_d, \qquad
              g = \mathrm{scale} + \mathrm{offset}

    With `before` the row :math:`x_t \odot g` is divided by its own root mean square, and the scale is not applied again.

    Parameters
    ----------
    x : (T, D) real
    scale : (D,) real, optional
        A parameter; g is 1 where it is left out.
    eps : float
        Inside the root, >= 0.  A row of zeros gives 0 if it is positive, NaN (0/0) if not.
    factor : float
        A constant; D^-1/2 in front of Gemma 4's router.
    offset : float
        1 where a model stores g - 1 (Gemma, Muse Spark).
    before : bool
        Scale first, then divide (the norm of an expert's output in Muse Spark).

    Returns
    -------
    y : (T, D) real
        In the dtype of `x`.
    Saved

    Raises
    ------
    ValueError
        A negative eps; an offset, or `before`, without a scale.

    References
    ----------
    Zhang and Sennrich 2019, eq. 4.
    """
    OP.admit(x, scale, eps=eps, factor=factor, offset=offset, before=before)
    wide, gain = widen(x), None if scale is None else widen(scale) + float(offset)
    divided = wide * gain if before else wide
    with np.errstate(all="ignore"):
        inverse = 1 / np.sqrt((divided * divided).mean(1, keepdims=True) + float(eps))
        y = divided * inverse * float(factor)
    y = y if gain is None or before else y * gain
    return y.astype(x.dtype), Saved(x, scale, gain, inverse, (float(factor), before))


def rms_norm_backward(saved, dy):
    r"""With r = 1 / rms and the cotangent of the normalised row, u = factor g dy:

    .. math:: \bar x_{td} = r_t \Big( u_{td} - x_{td} \, r_t^2 \, \tfrac{1}{D} \sum_m u_{tm} x_{tm} \Big), \qquad
              \bar g_d = \mathrm{factor} \sum_t \bar y_{td} \, x_{td} \, r_t

    With `before` the first line holds of :math:`z = x \odot g` and :math:`u = \mathrm{factor} \, \bar y`; then
    :math:`\bar x = \bar z \odot g` and :math:`\bar g = \sum_t \bar z_t \odot x_t`.
    """
    (factor, before), gain, r = saved.attrs, saved.gain, saved.inverse
    d, x = widen(dy) * factor, widen(saved.x)
    z, u = (x * gain, d) if before else (x, d if gain is None else d * gain)
    dx = r * (u - z * (r * r) * (u * z).mean(1, keepdims=True))
    if gain is None:
        return dx.astype(saved.x.dtype), None
    dscale = (dx * x).sum(0) if before else (d * x * r).sum(0)
    return (dx * gain if before else dx).astype(saved.x.dtype), dscale.astype(saved.scale.dtype)


def _check(dims, x, scale, *, eps=1e-6, factor=1.0, offset=0.0, before=False):
    if scale is None and (offset or before):
        raise ValueError(f"rms_norm: offset={offset}, before={before} need a scale (x has shape {tuple(x.shape)})")
    if not eps >= 0:
        raise ValueError(f"rms_norm: eps={eps} must be at least 0 (x has shape {tuple(x.shape)})")


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for name, t, d in (("normal", 5, 8), ("one_token", 1, 6), ("width_1", 3, 1), ("odd_width", 4, 17), ("no_tokens", 0, 4)):
        case = Case(name, {"x": corpus.normal(rng, t, d)}, {}, frozenset({"empty"} if not t else ()))
        yield case
        scaled = case.add("scaled", scale=corpus.normal(rng, d))
        yield scaled.with_(factor=d**-0.5, eps=1e-5)
        yield scaled.with_("offset", offset=1.0)
        yield scaled.with_("before", offset=1.0, before=True, eps=1e-3, factor=1.5)
    yield Case("eps_counts", {"x": corpus.normal(rng, 4, 8, scale=0.02), "scale": corpus.normal(rng, 8)}, {"eps": 1e-3})
    yield Case("zero_row", {"x": np.array([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]])}, {}, frozenset({"steep"}))
    yield Case("zero_row_no_eps", {"x": np.array([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]])}, {"eps": 0.0}, frozenset({"nan"}))
    yield Case("one_large", {"x": np.array([[1e-3, 240.0, -1e-3, 0.5]])})
    spoilt = corpus.normal(rng, 3, 4)
    spoilt[1, 2] = np.nan
    yield Case("nan_token", {"x": spoilt, "scale": corpus.normal(rng, 4)}, {}, frozenset({"nan"}))


INVALID = (
    (Case("other_width", {"x": np.zeros((3, 4)), "scale": np.zeros(5)}), ValueError, r"^rms_norm: scale has shape \(5,\), but D must be 4"),
    (Case("offset_of_nothing", {"x": np.zeros((3, 4))}, {"offset": 1.0}), ValueError,
     r"^rms_norm: offset=1.0, before=False need a scale \(x has shape \(3, 4\)\)"),
    (Case("eps_negative", {"x": np.zeros((3, 4))}, {"eps": -1.0}), ValueError, r"^rms_norm: eps=-1.0 must be at least 0 \(x has shape \(3, 4\)\)"),
)


def _unit(run):
    """Without a scale the mean square of a row is factor^2 ms / (ms + eps)."""
    x, y = (np.asarray(a, float) for a in (run.inputs["x"], run.outputs.y))
    if run.inputs["scale"] is not None or not run.dims.T:
        return None
    ms, eps = (x * x).mean(1), run.attrs.get("eps", 1e-6)
    want = run.attrs.get("factor", 1.0) ** 2 * ms / (ms + eps)
    got = (y * y).mean(1)
    return ~np.isfinite(want) | (np.abs(got - want) <= (8 * run.unit + run.dims.D * 2.0**-22) * want)


def _scale_free(run):
    """Where eps does not count, the gradient of a row is orthogonal to the row."""
    x, d = (np.asarray(a, float) for a in (run.inputs["x"], run.grads["x"]))
    terms = x * d
    free = (x * x).mean(1) > 1e4 * run.attrs.get("eps", 1e-6) * run.dims.D
    slack = (1e-3 + 32 * run.unit) * np.abs(terms).sum(1) + 32 * run.unit * np.abs(x).max(1, initial=0) * np.abs(d).max(1, initial=0)
    return ~free | np.isnan(terms).any(1) | (np.abs(terms.sum(1)) <= slack + 1e-6 * (run.dtype == "float16") * np.abs(x).sum(1)) | (run.dims.D == 1)


def _stored_less_one(run):
    """What is stored does not matter, only what it amounts to."""
    if run.inputs["scale"] is None or run.dtype in ("float16", "bfloat16"):
        return None
    moved = run.rerun(scale=run.inputs["scale"] + run.attrs.get("offset", 0.0), offset=0.0)
    return np.isnan(moved.y) | np.isclose(moved.y, run.outputs.y, rtol=16 * run.unit, atol=0)


def _scaled_before(run):
    """Scaling first is dividing the scaled row."""
    if not run.attrs.get("before") or run.dtype in ("float16", "bfloat16"):
        return None
    gain = run.inputs["scale"] + run.attrs["offset"]
    plain = run.rerun(x=(run.inputs["x"] * gain).astype(run.dtype), scale=None, offset=0.0, before=False)
    return np.isclose(plain.y, run.outputs.y, rtol=64 * run.unit, atol=0)


REQUIREMENTS = (
    Req("RMS_NORM-1", "Without a scale the mean square of a row is factor^2 m / (m + eps), m its mean square before.", _unit),
    Req("RMS_NORM-2", "Where eps does not count, the gradient of a row is orthogonal to it: its length does not matter.", _scale_free),
    Req("RMS_NORM-3", "A NaN spreads over its row and no other; with an eps a row of zeros stays 0.",
        lambda r: None if not r.attrs.get("eps", 1e-6) else (np.isnan(r.outputs.y) == np.isnan(r.inputs["x"]).any(1, keepdims=True)) & (
            (r.inputs["x"] != 0).any(1, keepdims=True) | (r.outputs.y == 0))),
    Req("RMS_NORM-4", "A scale of g - o with the offset o is a scale of g.", _stored_less_one),
    Req("RMS_NORM-5", "With `before` the scaled row is divided by its own root mean square.", _scaled_before),
)

OP = Op(
    name="gates.rms_norm",
    inputs=(Arg("x", "T D"), Arg("scale", "D", optional=True)),
    outputs=(Arg("y", "T D"),),
    forward=rms_norm,
    backward=rms_norm_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, D, **_: (5 * T * D, 9 * T * D),
    refs=("Zhang and Sennrich 2019, eq. 4",),
)
