"""Renormalise the chosen scores: not at all, by their sum with eps added, by their sum clamped from below, or by their p-norm; and scale."""

from typing import NamedTuple

import numpy as np

from moespec import corpus
from moespec.numerics import safe_divide, widen
from moespec.op import Arg, Case, Op, Req

SUMS = ("none", "sum", "clamp")
NORMS = (*SUMS, "lp")


class Saved(NamedTuple):
    chosen: np.ndarray      # T K, 0 where the index is -1
    total: np.ndarray       # T 1
    passes: np.ndarray      # T 1   whether the total depends on the scores; lp: T K, its derivative
    live: np.ndarray        # T K
    attrs: tuple            # norm, scale
    dtype: np.dtype


def renormalize(chosen, indices, *, norm="none", eps=0.0, scale=1.0, p=1.0):
    r"""Turn the chosen scores into weights.

    .. math:: w_{tj} = \begin{cases} \mathrm{scale} \, c_{tj} & \text{none} \\
              \mathrm{scale} \, c_{tj} / (S_t + \mathrm{eps}) & \text{sum} \\
              \mathrm{scale} \, c_{tj} / \max(S_t, \mathrm{eps}) & \text{clamp} \\
              \mathrm{scale} \, c_{tj} / (\|c_t\|_p + \mathrm{eps}) & \text{lp} \end{cases} \qquad
              S_t = \sum_{m : i_{tm} \ge 0} c_{tm}, \quad \|c_t\|_p = \Big( \sum_{m : i_{tm} \ge 0} |c_{tm}|^p \Big)^{1/p}

    Entries at -1 are 0 and not summed.  Where scores underflow, ``sum`` with eps = 0 gives 0/0 = NaN (IEEE); libraries use 1e-20,
    1e-9, 1e-6 or a clamp, and differ there.

    Parameters
    ----------
    chosen : (T, K) real
    indices : (T, K) integer
        -1 = no expert.  A token without an expert has weights 0 and gradient 0.
    norm : {"none", "sum", "clamp", "lp"}
    eps, scale : float
    p : float
        Of the p-norm, 1 <= p < inf.

    Returns
    -------
    weights : (T, K) real
        In the dtype of `chosen`.
    Saved

    Raises
    ------
    ValueError
        An unknown norm, a negative eps, a p below 1.

    References
    ----------
    Lepikhin et al. 2020, algorithm 1 (sum); DeepSeek-V3, eq. 13, with its route scale;
    MegaBlocks and DBRX (lp).
    """
    OP.admit(chosen, indices, norm=norm, eps=eps, p=p)
    live = indices >= 0
    weights, total, passes = weigh(np.where(live, widen(chosen), 0.0), live, norm, eps, scale, p)
    saved = Saved(np.where(live, widen(chosen), 0.0), total, passes, live, (norm, scale), chosen.dtype)
    return weights.astype(chosen.dtype), saved


def renormalize_backward(saved, dweights):
    r"""The quotient rule; where the clamp holds the total it is constant (at equality the gradient passes).
    The p-norm has slope 0 at a score of 0.

    .. math:: \bar c_{tj} = \frac{\mathrm{scale}}{N_t} \Big( \bar w_{tj} - \frac{N'_{tj}}{N_t} \sum_m \bar w_{tm} c_{tm} \Big), \qquad
              N'_{tj} = \frac{\partial N_t}{\partial c_{tj}} = 1, \; [S_t \ge \mathrm{eps}]
              \text{ or } \mathrm{sign}(c_{tj}) \Big( \frac{|c_{tj}|}{\|c_t\|_p} \Big)^{p-1}

    with N the divisor.
    """
    d = unweigh(saved.chosen, saved.total, saved.passes, widen(dweights), *saved.attrs)
    return np.where(saved.live, d, 0.0).astype(saved.dtype)


def _check(dims, chosen, indices, *, norm="none", eps=0.0, scale=1.0, p=1.0):
    require_norm("renormalize", norm, eps, chosen.shape, p)


def require_norm(name, norm, eps, shape, p=1.0, among=NORMS):
    """Refuse an unknown norm, a negative eps and a p that makes no norm."""
    if norm not in among:
        raise ValueError(f"{name}: norm={norm!r} is not one of {', '.join(among)}")
    if not 1 <= p < np.inf:
        raise ValueError(f"{name}: p={p} must be at least 1 and finite (chosen has shape {tuple(shape)})")
    if not eps >= 0:
        raise ValueError(f"{name}: eps={eps} must be at least 0 (chosen has shape {tuple(shape)})")


def weigh(chosen, live, norm, eps, scale, p=1.0):
    """Weights, the total they were divided by, and whether (lp: how) it follows the scores; `chosen` is 0 where it is not live."""
    total = chosen.sum(1, keepdims=True)
    passes = np.ones(total.shape, bool)
    if norm == "none":
        return chosen * float(scale), np.ones(total.shape), passes
    if norm == "sum":
        total = total + float(eps)
    elif norm == "lp":
        length, passes = _length(chosen, float(p))
        total = length + float(eps)
    else:
        passes = total >= float(eps)
        total = np.where(passes, total, float(eps))
    total = np.where(live.any(1, keepdims=True), total, 1.0)
    with np.errstate(all="ignore"):
        return chosen / total * float(scale), total, passes


def _length(chosen, p):
    """The p-norm of every row, and its derivative."""
    size = np.abs(chosen)
    length = np.power(np.power(size, p).sum(1, keepdims=True), 1 / p)
    with np.errstate(all="ignore"):
        slope = np.power(safe_divide(size, length), p - 1)
    return length, np.where(chosen > 0, slope, np.where(chosen < 0, -slope, 0.0))


def unweigh(chosen, total, passes, dweights, norm, scale):
    """The gradient of `chosen`."""
    if norm == "none":
        return dweights * float(scale)
    with np.errstate(all="ignore"):
        through = (dweights * chosen).sum(1, keepdims=True) / total
        through = through * passes if norm == "lp" else np.where(passes, through, 0.0)
        return float(scale) * ((dweights - through) / total)


# ---- what is checked -------------------------------------------------------------------------------------------------

NAMED: tuple[dict, ...] = ({"norm": "none"}, {"norm": "sum"}, {"norm": "sum", "eps": 1e-3, "scale": 2.5}, {"norm": "clamp", "eps": 0.25},
         {"norm": "none", "scale": 16.0}, {"norm": "lp"}, {"norm": "lp", "p": 2.0, "scale": 2.5}, {"norm": "lp", "p": 3.5, "eps": 1e-3})


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
    signs = {"chosen": np.array([[3.0, -4.0], [-0.75, 1.0], [0.5, -0.25]]), "indices": np.array([[0, 1], [2, 3], [1, -1]])}
    yield Case("signs_lp1", signs, {"norm": "lp"})
    yield Case("signs_lp2", signs, {"norm": "lp", "p": 2.0})
    yield Case("zero_among_lp2", {"chosen": np.array([[0.0, 2.0]]), "indices": np.array([[0, 1]])}, {"norm": "lp", "p": 2.0})
    yield Case("zero_lp2_eps", {"chosen": np.zeros((1, 2)), "indices": np.array([[0, 1]])}, {"norm": "lp", "p": 2.0, "eps": 0.5}, frozenset({"kink"}))
    hidden = np.array([[0.5, np.nan], [0.25, 0.5]])
    yield Case("nan_left_out", {"chosen": hidden, "indices": np.array([[0, -1], [1, 2]])}, {"norm": "sum"}, frozenset({"nan"}))
    yield Case("nan_spreads", {"chosen": hidden, "indices": np.array([[0, 1], [1, 2]])}, {"norm": "sum"}, frozenset({"nan"}))


_RIGHT = {"chosen": np.ones((2, 2)), "indices": np.zeros((2, 2), int)}
INVALID = (
    (Case("norm_unknown", _RIGHT, {"norm": "l3"}), ValueError, r"renormalize: norm='l3' is not one of none, sum, clamp"),
    (Case("p_below_1", _RIGHT, {"norm": "lp", "p": 0.5}), ValueError,
     r"renormalize: p=0.5 must be at least 1 and finite \(chosen has shape \(2, 2\)\)"),
    (Case("eps_negative", _RIGHT, {"norm": "sum", "eps": -1.0}), ValueError,
     r"renormalize: eps=-1.0 must be at least 0 \(chosen has shape \(2, 2\)\)"),
)


def _sums_to_scale(run):
    if run.attrs.get("norm") != "sum" or run.attrs.get("eps"):
        return None
    scale, live = run.attrs.get("scale", 1.0), (run.inputs["indices"] >= 0).any(1)
    total = np.asarray(run.outputs.weights, float).sum(1)
    return ~np.isfinite(total) | (np.abs(total - scale * live) <= 2 * (run.dims.K + 2) * run.unit * scale)


def _length_is_scale(run):
    """By a loop: the p-norm of a token's weights is |scale|."""
    if run.attrs.get("norm") != "lp" or run.attrs.get("eps"):
        return None
    p, live, w = run.attrs.get("p", 1.0), (run.inputs["indices"] >= 0).any(1), np.asarray(run.outputs.weights, float)
    size = np.array([sum(abs(v) ** p for v in row) ** (1 / p) for row in w.tolist()])
    return ~np.isfinite(size) | (np.abs(size - run.attrs.get("scale", 1.0) * live) <= 4 * (run.dims.K + 4) * run.unit * run.attrs.get("scale", 1.0))


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
    Req("RENORMALIZE-5", "With norm lp and no eps the p-norm of a token's weights is the scale, or 0 where it has no expert.", _length_is_scale),
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
