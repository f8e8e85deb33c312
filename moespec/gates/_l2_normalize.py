"""Unit length for the logits of Soft MoE: tokens and slot vectors are compared by their angle (Puigcerver et al. 2023)."""

from typing import NamedTuple

import numpy as np

from moespec import corpus, numerics
from moespec.numerics import widen
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    x: np.ndarray           # N D
    norm: np.ndarray        # N 1 or 1 D
    scale: np.ndarray       # (), or None
    attrs: tuple            # axis, eps
    dtypes: tuple


def l2_normalize(x, scale=None, *, axis=1, eps=1e-6):
    r"""Divide rows (axis 1) or columns (axis 0) by their length, times a learned scale.

    .. math:: y = \mathrm{scale} \cdot \frac{x}{\|x\|_2 + \epsilon}

    Soft MoE normalises the tokens x[T, D] along axis 1 and the slot vectors w[D, S] along axis 0 with a scale.  Epsilon is added
    to the length (not under the root): zeros stay 0.

    Parameters
    ----------
    x : (N, D) real
    scale : () real, optional
        1 by default.
    axis : {0, 1}
    eps : float
        Above 0.

    Returns
    -------
    y : (N, D) real
        In the dtype of `x`.
    Saved

    Raises
    ------
    ValueError
        Another axis; eps not above 0.

    References
    ----------
    Puigcerver et al. 2023, section 2.3 and algorithm 2.
    """
    OP.admit(x, scale, axis=axis, eps=eps)
    wide, s = widen(x), widen(scale)
    norm = np.sqrt((wide * wide).sum(axis=axis, keepdims=True))
    y = wide / (norm + eps)
    y = (y if s is None else s * y).astype(x.dtype)
    return y, Saved(wide, norm, s, (axis, eps), (x.dtype, None if scale is None else scale.dtype))


def l2_normalize_backward(saved, dy):
    r"""Along x the length grows too; at x = 0 the map is linear, :math:`y = \mathrm{scale} \cdot x / \epsilon`.

    .. math:: \bar x = \frac{\mathrm{scale}}{n + \epsilon} \Big( \bar y - x \, \frac{\langle x, \bar y \rangle}{n (n + \epsilon)} \Big),
              \quad n = \|x\|_2, \qquad \overline{\mathrm{scale}} = \frac{\sum \langle x, \bar y \rangle}{n + \epsilon}
    """
    (axis, eps), d, x = saved.attrs, widen(dy), saved.x
    inner = (x * d).sum(axis=axis, keepdims=True)
    unit = saved.norm + eps
    dx = (d - x * numerics.safe_divide(inner, saved.norm * unit)) / unit
    if saved.scale is None:
        return dx.astype(saved.dtypes[0]), None
    return (saved.scale * dx).astype(saved.dtypes[0]), (inner / unit).sum().astype(saved.dtypes[1])


def _check(dims, x, scale, *, axis=1, eps=1e-6):
    if axis not in (0, 1):
        raise ValueError(f"l2_normalize: axis={axis} is not 0 or 1 (x has shape {tuple(x.shape)})")
    if not eps > 0:
        raise ValueError(f"l2_normalize: eps={eps} must be above 0 (x has shape {tuple(x.shape)})")


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for axis in (0, 1):
        for name, x in (("normal", corpus.normal(rng, 5, 4)), ("one", corpus.normal(rng, 1, 1)), ("small", corpus.normal(rng, 3, 6, scale=1e-3)),
                        ("wide", corpus.normal(rng, 2, 130))):
            yield Case(f"{name}_{axis}", {"x": x}, {"axis": axis})
            yield Case(f"{name}_{axis}_scaled", {"x": x, "scale": np.array(2.5)}, {"axis": axis})
        large_eps = Case(f"eps_{axis}", {"x": corpus.normal(rng, 3, 4), "scale": np.array(-0.5)}, {"axis": axis, "eps": 0.25})
        yield large_eps
        yield Case(f"no_rows_{axis}", {"x": np.zeros((0, 3)), "scale": np.array(2.0)}, {"axis": axis}, frozenset({"empty"}))
    yield Case("three_four_five", {"x": np.array([[3.0, 4.0], [-6.0, 8.0]])}, {"eps": 3.0})
    x = corpus.normal(rng, 4, 3)
    x[1] = 0
    yield Case("zero_row", {"x": x}, {"eps": 0.5}, frozenset({"kink"}))
    x = corpus.normal(rng, 4, 3)
    x[2, 1] = np.nan
    yield Case("nan", {"x": x}, {}, frozenset({"nan"}))


INVALID = (
    (Case("axis_two", {"x": np.zeros((2, 3))}, {"axis": 2}), ValueError, r"^l2_normalize: axis=2 is not 0 or 1 \(x has shape \(2, 3\)\)"),
    (Case("eps_zero", {"x": np.zeros((2, 3))}, {"eps": 0.0}), ValueError, r"^l2_normalize: eps=0.0 must be above 0"),
    (Case("scale_of_one", {"x": np.zeros((2, 3)), "scale": np.ones(1)}), ValueError, r"^l2_normalize: scale has shape \(1,\), wanted 0 dimensions"),
)


def _length(run):
    """|y| = |scale| n / (n + eps), by a sum of squares in float64."""
    axis, eps = run.attrs.get("axis", 1), run.attrs.get("eps", 1e-6)
    n = np.sqrt(np.square(np.asarray(run.inputs["x"], float)).sum(axis))
    s = 1.0 if run.inputs["scale"] is None else abs(float(run.inputs["scale"]))
    want = s * n / (n + eps)
    got = np.sqrt(np.square(np.asarray(run.outputs.y, float)).sum(axis))
    return np.isnan(want) | (np.abs(got - want) <= 8 * (run.unit + 1e-9) * s * np.sqrt(run.inputs["x"].shape[axis] + 1))


REQUIREMENTS = (
    Req("L2_NORMALIZE-1", "The length of a row (column) is |scale| n / (n + eps).", _length),
    Req("L2_NORMALIZE-2", "A row of zeros stays 0 and passes its gradient times scale / eps.",
        lambda r: None if r.case.name != "zero_row" else (r.outputs.y[1] == 0) & (r.grads["x"][1] == 2 * r.cotangents["y"][1])),
    Req("L2_NORMALIZE-3", "Lengths 5 and 10 with eps 3: eighths and thirteenths.",
        lambda r: None if r.case.name != "three_four_five" else
        np.abs(np.asarray(r.outputs.y, float) - [[3 / 8, 4 / 8], [-6 / 13, 8 / 13]]) <= 2 * r.unit),
)

OP = Op(
    name="gates.l2_normalize",
    inputs=(Arg("x", "N D"), Arg("scale", "", optional=True)),
    outputs=(Arg("y", "N D"),),
    forward=l2_normalize,
    backward=l2_normalize_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda N, D, **_: (4 * N * D, 7 * N * D),
    refs=("Puigcerver et al. 2023, section 2.3 and algorithm 2",),
)
