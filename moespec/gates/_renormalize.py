"""Renormalise the chosen scores: none, by their sum with eps added, or by their sum clamped from below; and scale."""

from typing import NamedTuple

import numpy as np

from moespec import corpus
from moespec.numerics import widen
from moespec.op import Arg, Case, Op, Req

NORMS = ("none", "sum", "clamp")


class Saved(NamedTuple):
    chosen: np.ndarray      # T K, 0 where the index is -1
    total: np.ndarray       # T 1
    passes: np.ndarray      # T 1   whether the total depends on the scores
    live: np.ndarray        # T K
    attrs: tuple            # norm, scale
    dtype: np.dtype


def renormalize(chosen, indices, *, norm="none", eps=0.0, scale=1.0):
    r"""Turn the chosen scores into weights.

    .. math:: w_{tj} = \begin{cases} \mathrm{scale} \, c_{tj} & \text{none} \\
              \mathrm{scale} \, c_{tj} / (S_t + \mathrm{eps}) & \text{sum} \\
              \mathrm{scale} \, c_{tj} / \max(S_t, \mathrm{eps}) & \text{clamp} \end{cases} \qquad
              S_t = \sum_{m : i_{tm} \ge 0} c_{tm}

    Entries at -1 are 0 and not summed.  Where scores underflow, ``sum`` with eps = 0 gives 0/0 = NaN (IEEE); libraries use 1e-20,
    1e-9, 1e-6 or a clamp, and differ there.

    Parameters
    ----------
    chosen : (T, K) real
    indices : (T, K) integer
        -1 = no expert.  A token without an expert has weights 0 and gradient 0.
    norm : {"none", "sum", "clamp"}
    eps, scale : float

    Returns
    -------
    weights : (T, K) real
        In the dtype of `chosen`.
    Saved

    Raises
    ------
    ValueError
        An unknown norm, a negative eps.

    References
    ----------
    Lepikhin et al. 2020, algorithm 1 (sum); DeepSeek-V3, eq. 13, with its route scale.
    """
    OP.admit(chosen, indices, norm=norm, eps=eps)
    live = indices >= 0
    weights, total, passes = weigh(np.where(live, widen(chosen), 0.0), live, norm, eps, scale)
    saved = Saved(np.where(live, widen(chosen), 0.0), total, passes, live, (norm, scale), chosen.dtype)
    return weights.astype(chosen.dtype), saved


def renormalize_backward(saved, dweights):
    r"""The quotient rule; where the clamp holds the total it is constant (at equality the gradient passes).

    .. math:: \bar c_{tj} = \frac{\mathrm{scale}}{N_t} \Big( \bar w_{tj} - \frac{1}{N_t} \sum_m \bar w_{tm} c_{tm} \Big), \qquad
              N_t = S_t + \mathrm{eps} \text{ or } \max(S_t, \mathrm{eps})
    """
    d = unweigh(saved.chosen, saved.total, saved.passes, widen(dweights), *saved.attrs)
    return np.where(saved.live, d, 0.0).astype(saved.dtype)


def _check(dims, chosen, indices, *, norm="none", eps=0.0, scale=1.0):
    require_norm("renormalize", norm, eps, chosen.shape)


def require_norm(name, norm, eps, shape):
    """Refuse an unknown norm and a negative eps."""
    if norm not in NORMS:
        raise ValueError(f"{name}: norm={norm!r} is not one of {', '.join(NORMS)}")
    if not eps >= 0:
        raise ValueError(f"{name}: eps={eps} must be at least 0 (chosen has shape {tuple(shape)})")


def weigh(chosen, live, norm, eps, scale):
    """Weights, the total they were divided by, and whether it follows the scores; `chosen` is 0 where it is not live."""
    total = chosen.sum(1, keepdims=True)
    passes = np.ones(total.shape, bool)
    if norm == "none":
        return chosen * float(scale), np.ones(total.shape), passes
    if norm == "sum":
        total = total + float(eps)
    else:
        passes = total >= float(eps)
        total = np.where(passes, total, float(eps))
    total = np.where(live.any(1, keepdims=True), total, 1.0)
    with np.errstate(all="ignore"):
        return chosen / total * float(scale), total, passes


def unweigh(chosen, total, passes, dweights, norm, scale):
    """The gradient of `chosen`."""
    if norm == "none":
        return dweights * float(scale)
    with np.errstate(all="ignore"):
        through = (dweights * chosen).sum(1, keepdims=True) / total
        return float(scale) * ((dweights - np.where(passes, through, 0.0)) / total)


# ---- what is checked -------------------------------------------------------------------------------------------------

NAMED: tuple[dict, ...] = ({"norm": "none"}, {"norm": "sum"}, {"norm": "sum", "eps": 1e-3, "scale": 2.5}, {"norm": "clamp", "eps": 0.25},
         {"norm": "none", "scale": 16.0})


def cases(rng):
    for case in corpus.routings(rng):
        scores = np.abs(corpus.normal(rng, *case.inputs["indices"].shape)) + 2.0**-3
        for n, attrs in enumerate(NAMED):
            yield case.add(chosen=scores).with_(f"{attrs['norm']}{n}", **attrs)
    ids = np.tile([3, 1], (5, 1))
    sums = np.array([[1e-3], [1e-6], [1e-9], [1e-12], [0.0]]) * [0.75, 0.25]                      # what tells one eps from another
    for eps in (1e-20, 1e-9, 1e-6):
        yield Case(f"tiny_sums_{eps:.0e}", {"chosen": sums, "indices": ids}, {"norm": "sum", "eps": eps}, frozenset({"steep"}))
        yield Case(f"tiny_sums_clamp_{eps:.0e}", {"chosen": sums, "indices": ids}, {"norm": "clamp", "eps": eps}, frozenset({"steep"}))
    yield Case("zero_sum", {"chosen": np.zeros((2, 2)), "indices": np.array([[0, 1], [-1, -1]])}, {"norm": "sum"}, frozenset({"nan"}))
    yield Case("dyadic", {"chosen": np.array([[0.5, 0.5], [0.75, 0.25]]), "indices": np.array([[0, 1], [2, 0]])}, {"norm": "sum", "scale": 4.0},
               frozenset({"exact"}))
    yield Case("at_the_clamp", {"chosen": np.array([[0.125, 0.125]]), "indices": np.array([[0, 1]])}, {"norm": "clamp", "eps": 0.25},
               frozenset({"exact", "kink"}))
    hidden = np.array([[0.5, np.nan], [0.25, 0.5]])
    yield Case("nan_left_out", {"chosen": hidden, "indices": np.array([[0, -1], [1, 2]])}, {"norm": "sum"}, frozenset({"nan"}))
    yield Case("nan_spreads", {"chosen": hidden, "indices": np.array([[0, 1], [1, 2]])}, {"norm": "sum"}, frozenset({"nan"}))


_RIGHT = {"chosen": np.ones((2, 2)), "indices": np.zeros((2, 2), int)}
INVALID = (
    (Case("norm_unknown", _RIGHT, {"norm": "l3"}), ValueError, r"renormalize: norm='l3' is not one of none, sum, clamp"),
    (Case("eps_negative", _RIGHT, {"norm": "sum", "eps": -1.0}), ValueError,
     r"renormalize: eps=-1.0 must be at least 0 \(chosen has shape \(2, 2\)\)"),
)


def _sums_to_scale(run):
    if run.attrs.get("norm") != "sum" or run.attrs.get("eps"):
        return None
    scale, live = run.attrs.get("scale", 1.0), (run.inputs["indices"] >= 0).any(1)
    total = np.asarray(run.outputs.weights, float).sum(1)
    return ~np.isfinite(total) | (np.abs(total - scale * live) <= 2 * (run.dims.K + 2) * run.unit * scale)


def _nan_stays(run):
    """Without a normaliser only the entry itself is NaN; with one the whole token is."""
    nan = np.isnan(np.asarray(run.inputs["chosen"], float)) & (run.inputs["indices"] >= 0)
    if run.attrs.get("norm", "none") == "none":
        return np.isnan(run.outputs.weights) == nan
    return ~nan.any(1, keepdims=True) | (run.inputs["indices"] < 0) | np.isnan(run.outputs.weights)


REQUIREMENTS = (
    Req("RENORMALIZE-1", "With norm sum and no eps a token's weights sum to the scale, or to 0 where it has no expert.", _sums_to_scale),
    Req("RENORMALIZE-2", "A NaN spreads over its token by a normaliser, and only then.", _nan_stays),
    Req("RENORMALIZE-3", "A token without an expert has weights 0 and gradient 0.",
        lambda r: (r.inputs["indices"] >= 0).any(1, keepdims=True) | ((r.outputs.weights == 0) & (r.grads["chosen"] == 0))),
    Req("RENORMALIZE-4", "Entries at -1 get gradient 0.", lambda r: (r.inputs["indices"] >= 0) | (r.grads["chosen"] == 0)),
)

OP = Op(
    name="gates.renormalize",
    inputs=(Arg("chosen", "T K"), Arg("indices", "T K", "index", of="E")),
    outputs=(Arg("weights", "T K"),),
    forward=renormalize,
    backward=renormalize_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, K, **_: (3 * T * K, 5 * T * K),
    refs=("Lepikhin et al. 2020, algorithm 1", "DeepSeek-V3 2024, eq. 13"),
)
