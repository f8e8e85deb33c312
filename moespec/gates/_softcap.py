"""Soft cap: logits that cannot leave an interval (Gemma 2; Laguna's router)."""

from typing import NamedTuple

import numpy as np

from moespec import corpus
from moespec.numerics import widen
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    tanh: np.ndarray        # T E
    dtype: np.dtype


def softcap(logits, *, cap):
    r"""Squash logits into -cap .. cap.

    .. math:: y = \mathrm{cap} \cdot \tanh(l / \mathrm{cap})

    Parameters
    ----------
    logits : (T, E) real
        Infinities give plus or minus cap; a NaN stays where it is.
    cap : float
        > 0.

    Returns
    -------
    capped : (T, E) real
        In the dtype of `logits`.
    Saved
        The hyperbolic tangent.

    Raises
    ------
    ValueError
        A cap that is not positive.

    References
    ----------
    Bello et al. 2016, section 5.2; Gemma 2 2024, section 2.
    """
    OP.admit(logits, cap=cap)
    t = np.tanh(widen(logits) / float(cap))
    return (float(cap) * t).astype(logits.dtype), Saved(t, logits.dtype)


def softcap_backward(saved, dcapped):
    r"""The derivative of a hyperbolic tangent; the two caps cancel.

    .. math:: \bar l = (1 - \tanh^2(l / \mathrm{cap})) \, \bar y
    """
    return ((1 - saved.tanh * saved.tanh) * widen(dcapped)).astype(saved.dtype)


def _check(dims, logits, *, cap):
    if not cap > 0:
        raise ValueError(f"softcap: cap={cap} must be above 0 (logits has shape {tuple(logits.shape)})")


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for case in corpus.logits(rng):
        yield case.with_(cap=5.0)
    yield Case("cap_30", {"logits": corpus.normal(rng, 3, 4, scale=20.0)}, {"cap": 30.0})
    yield Case("cap_below_1", {"logits": corpus.normal(rng, 3, 4)}, {"cap": 0.5})


INVALID = (
    (Case("cap_zero", {"logits": np.zeros((2, 8))}, {"cap": 0.0}), ValueError, r"^softcap: cap=0.0 must be above 0 \(logits has shape \(2, 8\)\)"),
    (Case("one_dimension", {"logits": np.zeros(8)}, {"cap": 1.0}), ValueError, r"^softcap: logits has shape \(8,\), wanted 2 dimensions"),
)


def _logarithm(run):
    """cap/2 log((cap + y) / (cap - y)) gives the logit back, well inside the interval."""
    l, y, cap = np.asarray(run.inputs["logits"], float), np.asarray(run.outputs.capped, float), run.attrs["cap"]
    inside = np.abs(l) < cap
    safe = np.where(inside, np.clip(y, -0.9 * cap, 0.9 * cap), 0.0)
    return ~inside | (np.abs(cap / 2 * np.log((cap + safe) / (cap - safe)) - l) <= 32 * run.unit * cap)


REQUIREMENTS = (
    Req("SOFTCAP-1", "The capped logit is within the cap, and odd in the logit.",
        lambda r: np.isnan(r.inputs["logits"]) | ((np.abs(np.asarray(r.outputs.capped, float)) <= r.attrs["cap"] * (1 + r.unit)) & (
            r.rerun(logits=-r.inputs["logits"]).capped == -r.outputs.capped))),
    Req("SOFTCAP-2", "Inside the cap the inverse hyperbolic tangent gives the logit back.", _logarithm),
    Req("SOFTCAP-3", "An infinite logit gives the cap, with gradient 0; a NaN stays where it is.",
        lambda r: (~np.isinf(r.inputs["logits"]) | ((np.abs(np.asarray(r.outputs.capped, float)) == r.attrs["cap"]) & (r.grads["logits"] == 0))) & (
            np.isnan(r.outputs.capped) == np.isnan(r.inputs["logits"]))),
)

OP = Op(
    name="gates.softcap",
    inputs=(Arg("logits", "T E"),),
    outputs=(Arg("capped", "T E"),),
    forward=softcap,
    backward=softcap_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, E, **_: (3 * T * E, 3 * T * E),
    refs=("Bello et al. 2016, section 5.2", "Gemma 2 2024, section 2"),
)
