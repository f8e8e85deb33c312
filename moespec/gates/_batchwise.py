"""Strictly balanced gating: every expert takes its best tokens of the batch (Shazeer et al. 2017, appendix F, eqs 15-18)."""

import numpy as np

from moespec import corpus, indexing, numerics
from moespec.gates._masked import masked_routing, masked_routing_backward, softmax_over_mask
from moespec.op import Arg, Case, Op, Req


def batchwise(logits, indices=None, *, k=None):
    r"""Give every expert the m = floor(k T / E) tokens that score highest for it.

    .. math:: G^s = \mathrm{softmax}(l), \qquad M_{ti} = [t \in \mathrm{top}_m(G^s_{\cdot i})], \qquad
              w_{ti} = \frac{G^s_{ti} M_{ti}}{\sum_j G^s_{tj} M_{tj}}

    A token may get 0 to E experts; ties go to the earlier token.  For training: the choice depends on the whole batch.

    Parameters
    ----------
    logits : (T, E) real
    indices : (T, E) integer, optional
        A given mask (replay): column i holds i or -1.
    k : int
        Experts per token on average, 1 <= k <= E.  May be left out with `indices`.

    Returns
    -------
    Routing(indices, weights)
        A column per expert: i or -1.  A token without an expert has weights 0.
    Saved

    Raises
    ------
    ValueError
        k out of range; neither `k` nor `indices`; a column that holds another id.

    References
    ----------
    Shazeer et al. 2017, eqs 15, 16, 18.
    """
    dims = OP.admit(logits, indices, k=k)
    probs = numerics.softmax(numerics.widen(logits))
    return masked_routing(probs, best_tokens(probs, None if k is None else k * dims.T // dims.E, indices), logits.dtype)


def batchwise_backward(saved, dweights):
    r"""The mask is constant.

    .. math:: \overline{G^s}_{ti} = \frac{M_{ti}}{\sum_j G^s_{tj} M_{tj}} \Big( \bar w_{ti} - \sum_j w_{tj} \bar w_{tj} \Big)
    """
    return masked_routing_backward(saved, dweights)


def _check(dims, logits, indices, *, k=None):
    if k is None and indices is None:
        raise ValueError(f"batchwise: give k or indices, got neither (logits has shape {tuple(logits.shape)})")
    if k is not None and not 1 <= k <= dims.E:
        raise ValueError(f"batchwise: k={k} must be in 1 .. {dims.E} (logits has shape {tuple(logits.shape)})")
    require_columns("batchwise", indices)


def require_columns(name, indices):
    """Refuse a given mask whose column i holds anything but i or -1."""
    if indices is not None:
        wrong = (indices >= 0) & (indices != np.arange(indices.shape[1]))
        if wrong.any():
            t, i = np.argwhere(wrong)[0]
            raise ValueError(f"{name}: indices[{t}, {i}]={indices[t, i]} must be {i} or -1 (indices has shape {indices.shape})")


def best_tokens(scores, most, indices=None):
    """[T, E]: the mask of the `most` best tokens of every expert, ties to the earlier token; or the given one."""
    if indices is not None:
        indexing.select(scores.T, None, _columns(scores, indices >= 0))
        return indices >= 0
    best = indexing.select(scores.T, most)
    return (indexing.untake(np.ones(best.shape), best, len(scores)) > 0).T


def _columns(scores, mask):
    """[E, most]: the tokens of every column of a mask, best first, -1 behind them."""
    key = np.where(mask, indexing.order_key(scores), np.iinfo(np.int64).min).T
    order = np.argsort(~key, axis=1, kind="stable")
    sizes = mask.sum(0)
    return np.where(np.arange(mask.shape[0]) < sizes[:, None], order, -1)[:, :sizes.max(initial=0)]


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for case in corpus.logits(rng):
        experts = case.inputs["logits"].shape[1]
        for k in sorted({1, min(2, experts), experts}):
            yield case.with_(f"k{k}", k=k)
    given = np.where(rng.random((6, 4)) < 0.5, np.arange(4), -1)
    given[2] = -1
    yield Case("given", {"logits": corpus.normal(rng, 6, 4), "indices": given})


INVALID = (
    (Case("k_above_experts", {"logits": np.zeros((4, 3))}, {"k": 4}), ValueError,
     r"^batchwise: k=4 must be in 1 \.\. 3 \(logits has shape \(4, 3\)\)"),
    (Case("neither", {"logits": np.zeros((4, 3))}), ValueError, r"^batchwise: give k or indices, got neither"),
    (Case("other_column", {"logits": np.zeros((2, 3)), "indices": np.array([[0, 1, 2], [0, 2, -1]])}), ValueError,
     r"^batchwise: indices\[1, 1\]=2 must be 1 or -1"),
)


def _columns_hold_m(run):
    if run.inputs["indices"] is not None:
        return None
    return (run.outputs.indices >= 0).sum(0) == run.dims.k * run.dims.T // run.dims.E


REQUIREMENTS = (
    Req("BATCHWISE-1", "Every expert takes exactly floor(k T / E) tokens.", _columns_hold_m),
    Req("BATCHWISE-2", "Weights are the softmax over the experts that took the token.", softmax_over_mask),
    Req("BATCHWISE-3", "A token that nobody took has weights 0 and gradient 0.",
        lambda r: (r.outputs.indices >= 0).any(1, keepdims=True) | ((r.outputs.weights == 0) & (r.grads["logits"] == 0)) | ~np.isfinite(
            np.asarray(r.inputs["logits"], float)).all(1, keepdims=True)),
)

OP = Op(
    name="gates.batchwise",
    inputs=(Arg("logits", "T E"), Arg("indices", "T E", "index", of="E", optional=True)),
    outputs=(Arg("indices", "T E", "index", of="E"), Arg("weights", "T E")),
    forward=batchwise,
    backward=batchwise_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, E, **_: (8 * T * E, 8 * T * E),
    refs=("Shazeer et al. 2017, eqs 15, 16, 18",),
)
