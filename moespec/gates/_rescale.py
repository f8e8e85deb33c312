"""Rescale: logits times a constant (a temperature, an output multiplier)."""

from typing import NamedTuple

import numpy as np

from moespec import corpus
from moespec.numerics import widen
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    factor: float
    dtype: np.dtype


def rescale(logits, *, factor):
    r"""Multiply logits by a constant.

    .. math:: y = \mathrm{factor} \cdot l

    Parameters
    ----------
    logits : (T, E) real
    factor : float
        A constant of the model; 1 / temperature.

    Returns
    -------
    scaled : (T, E) real
        In the dtype of `logits`.
    Saved

    References
    ----------
    Yang et al. 2022, table 8 (output multiplier).
    """
    OP.bind(logits)
    return (widen(logits) * float(factor)).astype(logits.dtype), Saved(float(factor), logits.dtype)


def rescale_backward(saved, dscaled):
    r"""The same constant.

    .. math:: \bar l = \mathrm{factor} \cdot \bar y
    """
    return (widen(dscaled) * saved.factor).astype(saved.dtype)


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for factor in (0.3, -1.7):
        yield Case("normal", {"logits": corpus.normal(rng, 5, 4)}).with_(str(factor), factor=factor)
    yield Case("dyadic", {"logits": corpus.dyadic(rng, 5, 4)}, {"factor": 0.25}, frozenset({"exact"}))
    yield Case("no_tokens", {"logits": np.zeros((0, 4))}, {"factor": 2.0}, frozenset({"empty"}))
    yield Case("special", {"logits": np.array([[np.nan, np.inf, -np.inf, -0.0]])}, {"factor": 2.0}, frozenset({"nan", "inf", "exact"}))


INVALID = (
    (Case("one_dimension", {"logits": np.zeros(8)}, {"factor": 1.0}), ValueError, r"^rescale: logits has shape \(8,\), wanted 2 dimensions"),
)

def _quotient(run):
    """Scaled over original, where both can be divided."""
    l, y, factor = np.asarray(run.inputs["logits"], float), np.asarray(run.outputs.scaled, float), run.attrs["factor"]
    return ~(np.isfinite(l) & (np.abs(l) > 0.01)) | (np.abs(y / l - factor) <= 4 * run.unit * abs(factor))


REQUIREMENTS = (
    Req("RESCALE-1", "The quotient of a scaled logit and its original is the factor.", _quotient),
    Req("RESCALE-2", "A factor of 1 changes nothing.",
        lambda r: np.array_equal(r.rerun(factor=1.0).scaled, r.inputs["logits"], equal_nan=True)),
)

OP = Op(
    name="gates.rescale",
    inputs=(Arg("logits", "T E"),),
    outputs=(Arg("scaled", "T E"),),
    forward=rescale,
    backward=rescale_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    flops=lambda T, E, **_: (T * E, T * E),
    refs=("Yang et al. 2022, table 8",),
)
