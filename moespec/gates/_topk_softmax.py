"""Top-k, then softmax over the selected logits: the gate of Shazeer et al. (2017), equations 3 and 5."""

from typing import NamedTuple

import numpy as np

from moespec import corpus, numerics
from moespec.gates._routing import Routing
from moespec.gates._softmax import sums_to_one, through_softmax
from moespec.gates._topk import require_k
from moespec.indexing import select, take, untake
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    indices: np.ndarray     # T K
    weights: np.ndarray     # T K, in the accumulation dtype: not yet rounded
    experts: int
    dtype: np.dtype


def topk_softmax(logits, indices=None, *, k=None):
    r"""Weigh the `k` largest logits of every token by a softmax over them alone.

    .. math:: w_{tj} = \exp l_{t i_{tj}} \big/ \sum_m \exp l_{t i_{tm}}, \qquad i_t = \mathrm{top}_k(l_t)

    Parameters
    ----------
    logits : (T, E) real
        -inf is legal: a selected -inf has weight 0 and still occupies its place.  A NaN spreads over its token.
    indices : (T, K) integer, optional
        A given selection (a replayed trace, a hash table); ``-1`` means "no expert", an id may repeat.
        Without it the `k` largest are taken by `topk`: descending, ties to the lower expert, NaN above all.
    k : int
        Experts per token, 1 <= k <= E.  May be left out with `indices`.

    Returns
    -------
    Routing(indices, weights)
        indices int64; weights in the dtype of `logits`; a row sums to 1, or is 0 where every index is -1.
    Saved
        indices, weights, E.

    Notes
    -----
    Stored point (`numerics.stored`): weights.

    Raises
    ------
    ValueError
        k out of range, or not the K of `indices`; an index outside -1 .. E-1; neither `k` nor `indices`.

    References
    ----------
    Shazeer et al. 2017, eqs 3 and 5.

    Examples
    --------
    >>> import numpy as np
    >>> from moespec import gates
    >>> (indices, weights), saved = gates.topk_softmax(np.array([[0.0, 1.0, 1.0]]), k=2)
    >>> indices, weights
    (array([[1, 2]]), array([[0.5, 0.5]]))
    >>> gates.topk_softmax_backward(saved, np.array([[1.0, 0.0]]))
    array([[ 0.  ,  0.25, -0.25]])
    """
    dims = OP.admit(logits, indices, k=k)
    l = numerics.widen(logits)
    indices = select(l, k, indices).astype(np.int64, copy=False)
    weights = numerics.stored(numerics.softmax(take(l, indices, missing=-np.inf), where=indices >= 0), "weights")
    return Routing(indices, weights.astype(logits.dtype)), Saved(indices, weights, dims.E, logits.dtype)


def topk_softmax_backward(saved, dweights):
    r"""The selection is constant; inside it, the Jacobian of a softmax.

    .. math:: \bar l_{t i_{tj}} = w_{tj} \Big(\bar w_{tj} - \sum_m w_{tm} \bar w_{tm}\Big), \qquad 0 \text{ elsewhere}

    With k = 1 the weight is the constant 1, so the router learns nothing: exactly 0 (TOPK_SOFTMAX-4).
    """
    dchosen = through_softmax(saved.weights, numerics.widen(dweights))
    return untake(dchosen, saved.indices, saved.experts).astype(saved.dtype)


def _check(dims, logits, indices, *, k=None):
    require_k("topk_softmax", k, dims.E, logits.shape, indices)


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for case in corpus.logits(rng):                                        # ties, nan, inf, large, empty, one expert ...
        experts = case.inputs["logits"].shape[1]
        for k in sorted({1, min(2, experts), experts}):
            yield case.with_(f"k{k}", k=k)
    for case in corpus.routings(rng, experts=8):                           # repeats, -1, all -1
        yield case.add("given", logits=corpus.dyadic(rng, len(case.inputs["indices"]), 8))


INVALID = (
    (Case("k_above_experts", {"logits": np.zeros((16, 8))}, {"k": 9}), ValueError,
     r"topk_softmax: k=9 exceeds the 8 experts \(logits has shape \(16, 8\)\)"),
    (Case("id_too_large", {"logits": np.zeros((2, 8)), "indices": np.full((2, 1), 8)}), ValueError,
     r"topk_softmax: indices holds 8, outside -1 \.\. 7 \(indices has shape \(2, 1\)\)"),
    (Case("two_ks", {"logits": np.zeros((2, 8)), "indices": np.zeros((2, 1), int)}, {"k": 2}), ValueError,
     r"topk_softmax: k=2 disagrees with the given indices \(indices has shape \(2, 1\)\)"),
    (Case("other_tokens", {"logits": np.zeros((2, 8)), "indices": np.zeros((3, 1), int)}), ValueError,
     r"topk_softmax: indices has shape \(3, 1\), but T must be 2 \(T=2, logits has shape \(2, 8\)\)"),
)


def _minus_inf(run):
    chosen = take(run.inputs["logits"], run.outputs.indices)
    beside = np.isfinite(chosen).any(1, keepdims=True) & ~np.isnan(chosen).any(1, keepdims=True) & ~(chosen == np.inf).any(1, keepdims=True)
    return ~((chosen == -np.inf) & beside) | (run.outputs.weights == 0)


def _only_selected(run):
    selected = untake(np.ones(run.outputs.indices.shape), run.outputs.indices, run.dims.E) > 0
    return selected | (run.grads["logits"] == 0)


REQUIREMENTS = (
    Req("TOPK_SOFTMAX-1", "The weights of a token that has an expert sum to 1, those of a token without one are 0.",
        lambda r: sums_to_one(r, r.outputs.weights, (r.outputs.indices >= 0).any(1), r.inputs["logits"])),
    Req("TOPK_SOFTMAX-2", "Logits that were not selected get a gradient of exactly 0.", _only_selected),
    Req("TOPK_SOFTMAX-3", "A selected -inf beside a finite logit has weight 0 and keeps its id.", _minus_inf),
    Req("TOPK_SOFTMAX-4", "With k = 1 the gradient is exactly 0.",
        lambda r: (r.dims.K > 1) | ~corpus.finite(r)[:, None] | (r.grads["logits"] == 0)),
)

OP = Op(
    name="gates.topk_softmax",
    inputs=(Arg("logits", "T E"), Arg("indices", "T K", "index", of="E", optional=True)),
    outputs=(Arg("indices", "T K", "index", of="E"), Arg("weights", "T K")),
    forward=topk_softmax,
    backward=topk_softmax_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, E, K, **_: (T * (E + 4 * K), 4 * T * K),
    refs=("Shazeer et al. 2017, eqs 3, 5",),
)
