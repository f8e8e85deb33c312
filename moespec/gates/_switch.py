"""The Switch gate: top-1 with the unnormalised probability (Fedus, Zoph and Shazeer 2021)."""

from typing import NamedTuple

import numpy as np

from moespec import corpus, indexing, numerics
from moespec.gates._linear import require_dtype
from moespec.gates._softmax import through_softmax
from moespec.numerics import widen
from moespec.op import Arg, Case, Op, Req, wider


class SwitchRouting(NamedTuple):
    """Logits for the auxiliary losses, and the routing."""

    logits: np.ndarray      # T E
    indices: np.ndarray     # T 1
    weights: np.ndarray     # T 1


class Saved(NamedTuple):
    x: np.ndarray           # T D   after the jitter
    w: np.ndarray           # D E
    jitter: np.ndarray | None
    probs: np.ndarray       # T E
    indices: np.ndarray     # T 1
    dtypes: tuple           # of x and w


def switch(x, w, jitter=None, indices=None, *, dtype="float32"):
    r"""Send every token to its most probable expert, with that probability as weight.

    .. math:: l = (x \odot \epsilon) W, \qquad p_t = \mathrm{softmax}(l_t), \qquad i_t = \arg\max_i p_{ti}, \qquad w_t = p_{t i_t}

    The weight is not renormalised (it would be 1, and the router would learn nothing).  The jitter multiplies the incoming
    representation, as the paper's text says.  Ties go to the lower expert.

    Parameters
    ----------
    x : (T, D) real
    w : (D, E) real
    jitter : (T, D) real, optional
        Multiplicative noise; constant under differentiation.
    indices : (T, 1) integer, optional
        A given selection; -1 = no expert.
    dtype : str
        Of the router: logits and weights have the wider of it and the dtype of `x` (selective precision).

    Returns
    -------
    SwitchRouting(logits, indices, weights)
    Saved

    Raises
    ------
    ValueError
        An unknown dtype; an index outside -1 .. E-1.

    References
    ----------
    Fedus et al. 2021, eqs 1-2, section 2.4, appendix C.
    """
    OP.admit(x, w, jitter, indices, dtype=dtype)
    out = wider(x.dtype, dtype)
    wide = widen(x) if jitter is None else widen(x) * widen(jitter)
    logits = wide @ widen(w)
    probs = numerics.softmax(logits)
    indices = indexing.select(probs, 1, indices).astype(np.int64, copy=False)
    weights = indexing.take(probs, indices)
    saved = Saved(wide, w, jitter, probs, indices, (x.dtype, w.dtype))
    return SwitchRouting(logits.astype(out), indices, weights.astype(out)), saved


def switch_backward(saved, dlogits, dweights):
    r"""The chosen probability teaches the whole softmax.

    .. math:: \bar l_{ti} \mathrel{+}= p_{ti} ([i = i_t] - p_{t i_t}) \, \bar w_t, \qquad
              \bar x = (\bar l \, W^T) \odot \epsilon, \qquad \bar W = (x \odot \epsilon)^T \bar l
    """
    d = np.zeros(saved.probs.shape, saved.probs.dtype) if dlogits is None else widen(dlogits)
    if dweights is not None:
        d = d + through_softmax(saved.probs, indexing.untake(widen(dweights), saved.indices, saved.probs.shape[1]))
    dx = d @ widen(saved.w).T
    dx = dx if saved.jitter is None else dx * widen(saved.jitter)
    return dx.astype(saved.dtypes[0]), (saved.x.T @ d).astype(saved.dtypes[1])


def _check(dims, x, w, jitter, indices, *, dtype="float32"):
    require_dtype("switch", dtype)


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for name, t, d, e in (("normal", 6, 4, 5), ("one_token", 1, 4, 3), ("one_expert", 3, 4, 1), ("no_tokens", 0, 4, 3), ("many_experts", 2, 3, 40)):
        inputs = {"x": corpus.normal(rng, t, d), "w": corpus.normal(rng, d, e)}
        case = Case(name, inputs, {}, frozenset({"empty"} if not t else ()))
        yield case
        yield case.add("jittered", jitter=rng.uniform(0.99, 1.01, (t, d)))
        yield case.with_("own_dtype", dtype="bfloat16")
    inputs = {"x": corpus.normal(rng, 4, 3), "w": corpus.normal(rng, 3, 5)}
    yield Case("given", {**inputs, "indices": np.array([[3], [-1], [0], [3]])})
    yield Case("ties", {"x": corpus.normal(rng, 4, 3), "w": np.tile(corpus.normal(rng, 3, 1), (1, 4))})
    spoilt = corpus.normal(rng, 3, 3)
    spoilt[1, 0] = np.nan
    yield Case("nan_token", {"x": spoilt, "w": corpus.normal(rng, 3, 4)}, {}, frozenset({"nan"}))


INVALID = (
    (Case("other_width", {"x": np.zeros((3, 4)), "w": np.zeros((5, 2))}), ValueError, r"^switch: w has shape \(5, 2\), but D must be 4"),
    (Case("two_choices", {"x": np.zeros((3, 4)), "w": np.zeros((4, 2)), "indices": np.zeros((3, 2), int)}), ValueError,
     r"^switch: indices has shape \(3, 2\), but 1 must be 1"),
    (Case("dtype_unknown", {"x": np.zeros((3, 4)), "w": np.zeros((4, 2))}, {"dtype": "int8"}), ValueError, r"^switch: dtype='int8' is not one of"),
)


def _learns(run):
    """A token that is not certain of its expert moves the router: k = 1 without renormalisation has a gradient."""
    w = np.asarray(run.outputs.weights, float)[:, 0]
    if run.dims.E == 1 or not run.dims.T or not np.isfinite(w).all() or not ((w > 0.01) & (w < 0.9)).any():
        return None
    return np.asarray(run.grads["w"], float).any()


REQUIREMENTS = (
    Req("SWITCH-1", "The weight is the largest probability: at least 1/E, at most 1.",
        lambda r: (r.outputs.indices < 0) | ~(np.asarray(r.outputs.weights, float) * r.dims.E < 1 - 0.05) | (r.inputs["indices"] is not None)),
    Req("SWITCH-2", "The router learns although k = 1.", _learns),
    Req("SWITCH-3", "Jitter of exactly 1 changes nothing.",
        lambda r: None if r.inputs["jitter"] is not None else [np.array_equal(a, b, equal_nan=True) for a, b in (
            (r.rerun(jitter=np.ones(r.inputs["x"].shape)).logits, r.outputs.logits),)]),
)

OP = Op(
    name="gates.switch",
    inputs=(Arg("x", "T D"), Arg("w", "D E"), Arg("jitter", "T D", grad=False, optional=True), Arg("indices", "T 1", "index", of="E", optional=True)),
    outputs=(Arg("logits", "T E", like="attr:dtype"), Arg("indices", "T 1", "index", of="E"), Arg("weights", "T 1", like="attr:dtype")),
    forward=switch,
    backward=switch_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, D, E, **_: (2 * T * D * E + 5 * T * E, 4 * T * D * E + 4 * T * E),
    refs=("Fedus et al. 2021, eqs 1-2, section 2.4, appendix C",),
)
