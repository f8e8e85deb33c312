"""Noisy top-k gating (Shazeer et al. 2017, eqs 3-5): the gate of the sparsely-gated layer."""

from typing import NamedTuple

import numpy as np

from moespec import corpus, indexing, numerics
from moespec.gates._linear import require_dtype
from moespec.gates._softmax import sums_to_one, through_softmax
from moespec.gates._topk import require_k
from moespec.numerics import expit, softplus, widen
from moespec.op import Arg, Case, Op, Req, wider


class NoisyTopK(NamedTuple):
    """Everything that the layer and its two losses read."""

    clean: np.ndarray       # T E
    sigma: np.ndarray       # T E
    logits: np.ndarray      # T E   noisy
    indices: np.ndarray     # T K
    weights: np.ndarray     # T K


class Saved(NamedTuple):
    inputs: tuple           # x, w_gate, w_noise, noise
    raw: np.ndarray         # T E
    indices: np.ndarray     # T K
    weights: np.ndarray     # T K, not rounded


def noisy_topk(x, w_gate, w_noise, noise, indices=None, *, k=None, floor=0.01, dtype="float32"):
    r"""Noisy logits, the `k` largest, a softmax over them.

    .. math:: c = x W_g, \quad \sigma = \mathrm{softplus}(x W_n) + \mathrm{floor}, \quad h = c + \epsilon \odot \sigma, \quad
              i_t = \mathrm{top}_k(h_t), \quad w_{tj} = \exp h_{t i_{tj}} \big/ \sum_m \exp h_{t i_{tm}}

    With W_g = W_n = 0, as the paper starts, noise alone chooses.  With k = 1 the weight is 1 and the router learns through its
    losses only.

    Parameters
    ----------
    x : (T, D) real
    w_gate, w_noise : (D, E) real
    noise : (T, E) real
        Standard normal; constant under differentiation.
    indices : (T, K) integer, optional
        A given selection; -1 = no expert.
    k : int
        1 <= k <= E.  May be left out with `indices`.
    floor : float
        Of the noise scale; 0 in the paper, 1e-2 in its code.
    dtype : str
        Of the router: outputs have the wider of it and the dtype of `x`.

    Returns
    -------
    NoisyTopK(clean, sigma, logits, indices, weights)
    Saved

    Raises
    ------
    ValueError
        k out of range; an index outside -1 .. E-1; a negative floor; an unknown dtype.

    References
    ----------
    Shazeer et al. 2017, eqs 3-5.
    """
    OP.admit(x, w_gate, w_noise, noise, indices, k=k, floor=floor, dtype=dtype)
    out = wider(x.dtype, dtype)
    clean, raw = widen(x) @ widen(w_gate), widen(x) @ widen(w_noise)
    sigma = softplus(raw) + floor
    logits = clean + widen(noise) * sigma
    indices = indexing.select(logits, k, indices).astype(np.int64, copy=False)
    weights = numerics.softmax(indexing.take(logits, indices, -np.inf), where=indices >= 0)
    found = NoisyTopK(clean.astype(out), sigma.astype(out), logits.astype(out), indices, weights.astype(out))
    return found, Saved((x, w_gate, w_noise, noise), raw, indices, weights)


def noisy_topk_backward(saved, dclean, dsigma, dlogits, dweights):
    r"""Through the softmax over the selected to the noisy logits, and on to both matrices.

    .. math:: \bar h_{t i_{tj}} \mathrel{+}= w_{tj} \Big( \bar w_{tj} - \sum_m w_{tm} \bar w_{tm} \Big), \quad
              \bar c \mathrel{+}= \bar h, \quad \bar r = (\bar \sigma + \epsilon \odot \bar h) \odot \mathrm{sigmoid}(r), \quad
              \bar x = \bar c W_g^T + \bar r W_n^T
    """
    x, w_gate, w_noise, noise = map(widen, saved.inputs)
    zero = np.zeros(saved.raw.shape, saved.raw.dtype)
    dc, ds, dh = (zero if d is None else widen(d) for d in (dclean, dsigma, dlogits))
    if dweights is not None:
        dh = dh + indexing.untake(through_softmax(saved.weights, widen(dweights)), saved.indices, saved.raw.shape[1])
    dc, draw = dc + dh, (ds + noise * dh) * expit(saved.raw)
    grads = dc @ w_gate.T + draw @ w_noise.T, x.T @ dc, x.T @ draw
    return tuple(g.astype(a.dtype) for g, a in zip(grads, saved.inputs, strict=False))


def _check(dims, x, w_gate, w_noise, noise, indices, *, k=None, floor=0.01, dtype="float32"):
    require_k("noisy_topk", k, dims.E, noise.shape, indices, of="noise")
    if not floor >= 0:
        raise ValueError(f"noisy_topk: floor={floor} must be at least 0 (x has shape {tuple(x.shape)})")
    require_dtype("noisy_topk", dtype)


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for name, t, d, e in (("normal", 5, 4, 4), ("one_token", 1, 3, 3), ("one_expert", 3, 3, 1), ("no_tokens", 0, 3, 3), ("many_experts", 2, 2, 33)):
        inputs = {"x": corpus.normal(rng, t, d), "w_gate": corpus.normal(rng, d, e), "w_noise": corpus.normal(rng, d, e),
                  "noise": corpus.normal(rng, t, e)}
        for k in sorted({1, min(2, e), e}):
            yield Case(name, inputs, {}, frozenset({"empty"} if not t else ())).with_(f"k{k}", k=k)
    inputs = {"x": corpus.normal(rng, 6, 3), "w_gate": np.zeros((3, 4)), "w_noise": np.zeros((3, 4)), "noise": corpus.normal(rng, 6, 4)}
    yield Case("zero_initialised", inputs, {"k": 2, "floor": 0.0})
    yield Case("no_noise_ties", {**inputs, "noise": np.zeros((6, 4))}, {"k": 2})
    yield Case("given", {**inputs, "indices": np.tile([2, -1], (6, 1))}, {"k": 2})
    yield Case("own_dtype", inputs, {"k": 2, "dtype": "bfloat16"})


_RIGHT = {"x": np.zeros((3, 4)), "w_gate": np.zeros((4, 8)), "w_noise": np.zeros((4, 8)), "noise": np.zeros((3, 8))}
INVALID = (
    (Case("k_above_experts", _RIGHT, {"k": 9}), ValueError, r"^noisy_topk: k=9 exceeds the 8 experts \(noise has shape \(3, 8\)\)"),
    (Case("floor_negative", _RIGHT, {"k": 1, "floor": -1.0}), ValueError, r"^noisy_topk: floor=-1.0 must be at least 0"),
    (Case("other_experts", {**_RIGHT, "w_noise": np.zeros((4, 7))}, {"k": 1}), ValueError,
     r"^noisy_topk: w_noise has shape \(4, 7\), but E must be 8"),
)


def _zero_start(run):
    """With both matrices 0 and no floor the logits are ln 2 times the noise, and clean is 0."""
    if np.asarray(run.inputs["w_gate"], float).any() or np.asarray(run.inputs["w_noise"], float).any() or run.attrs.get("floor", 0.01):
        return None
    want = np.log(2) * np.asarray(run.inputs["noise"], float)
    return (run.outputs.clean == 0) & (np.abs(np.asarray(run.outputs.logits, float) - want) <= 8 * max(run.unit, 2.0**-24) * np.abs(want))


REQUIREMENTS = (
    Req("NOISY_TOPK-1", "The weights of a token that has an expert sum to 1.",
        lambda r: sums_to_one(r, r.outputs.weights, (r.outputs.indices >= 0).any(1), r.outputs.logits)),
    Req("NOISY_TOPK-2", "With zero matrices (and no floor) the logits are ln 2 times the noise.", _zero_start),
)

OP = Op(
    name="gates.noisy_topk",
    inputs=(Arg("x", "T D"), Arg("w_gate", "D E"), Arg("w_noise", "D E"), Arg("noise", "T E", grad=False),
            Arg("indices", "T K", "index", of="E", optional=True)),
    outputs=(Arg("clean", "T E", like="attr:dtype"), Arg("sigma", "T E", like="attr:dtype"), Arg("logits", "T E", like="attr:dtype"),
             Arg("indices", "T K", "index", of="E"), Arg("weights", "T K", like="attr:dtype")),
    forward=noisy_topk,
    backward=noisy_topk_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, D, E, K, **_: (4 * T * D * E + 7 * T * E, 8 * T * D * E + 6 * T * E),
    refs=("Shazeer et al. 2017, eqs 3-5",),
)
