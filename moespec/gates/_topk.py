"""Top-k selection: the k experts of every token, in the normative order."""

import numpy as np

from moespec import corpus, indexing
from moespec.op import Arg, Case, Op, Req


def topk(scores, indices=None, *, k=None):
    r"""Select the `k` largest scores of every token.

    The order is the normative one: NaN above every number, -0.0 equal to +0.0, otherwise IEEE; ties go to the lower
    expert index; the ids of a token are listed in descending order of score.

    Parameters
    ----------
    scores : (T, E) real
        NaN and infinities are legal: ids are distinct and in range whatever the scores.
    indices : (T, K) integer, optional
        A given selection, returned as it is (replay); ``-1`` means "no expert", an id may repeat.
    k : int
        Experts per token, 1 <= k <= E.  May be left out with `indices`.

    Returns
    -------
    indices : (T, K) int64
    None
        Nothing is saved: a selection is constant under differentiation.

    Raises
    ------
    ValueError
        k out of range, or not the K of `indices`; an index outside -1 .. E-1; neither `k` nor `indices`.

    References
    ----------
    Shazeer et al. 2017, eq. 5 (KeepTopK; the paper gives no tie rule, this is ours).

    Examples
    --------
    Of two that are equal the lower id comes first, and a NaN before both:

    >>> import numpy as np
    >>> from moespec import gates
    >>> indices, _ = gates.topk(np.array([[1.0, 3.0, 3.0, np.nan]]), k=3)
    >>> indices
    array([[3, 1, 2]])
    """
    OP.admit(scores, indices, k=k)
    chosen = indexing.select(scores, k, indices)
    return chosen.astype(np.int64, copy=False), None


def _check(dims, scores, indices, *, k=None):
    require_k("topk", k, dims.E, scores.shape, indices, of="scores")


def require_k(name, k, experts, shape, indices, of="logits"):
    """Refuse neither of `k` and `indices`, two that disagree, and a k outside 1 .. E."""
    if k is None and indices is None:
        raise ValueError(f"{name}: give k or indices, got neither ({of} has shape {tuple(shape)})")
    if indices is not None:
        if k not in (None, indices.shape[1]):
            raise ValueError(f"{name}: k={k} disagrees with the given indices (indices has shape {indices.shape})")
        return
    if k > experts:
        raise ValueError(f"{name}: k={k} exceeds the {experts} experts ({of} has shape {tuple(shape)})")
    if k < 1:
        raise ValueError(f"{name}: k={k} must be at least 1 ({of} has shape {tuple(shape)})")


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for case in corpus.logits(rng):                    # no arithmetic: exact, whatever the values
        scores = case.inputs["logits"]
        case = case._replace(inputs={"scores": scores}, tags=case.tags | {"exact"})
        for k in sorted({1, min(2, scores.shape[1]), scores.shape[1]}):
            yield case.with_(f"k{k}", k=k)


INVALID = (
    (Case("k_above_experts", {"scores": np.zeros((16, 8))}, {"k": 9}), ValueError,
     r"topk: k=9 exceeds the 8 experts \(scores has shape \(16, 8\)\)"),
    (Case("k_zero", {"scores": np.zeros((16, 8))}, {"k": 0}), ValueError, r"topk: k=0 must be at least 1"),
    (Case("neither", {"scores": np.zeros((16, 8))}), ValueError, r"topk: give k or indices, got neither"),
    (Case("one_dimension", {"scores": np.zeros(8)}, {"k": 1}), ValueError, r"topk: scores has shape \(8,\), wanted 2 dimensions"),
    (Case("integers", {"scores": np.zeros((2, 8), int)}, {"k": 1}), TypeError, r"topk: scores has dtype int64"),
    (Case("id_too_large", {"scores": np.zeros((2, 8)), "indices": np.full((2, 1), 8)}), ValueError,
     r"topk: indices holds 8, outside -1 \.\. 7 \(indices has shape \(2, 1\)\)"),
)


def _chosen(run):
    return np.take_along_axis(indexing.order_key(run.inputs["scores"]), run.outputs.indices, 1)


def _descending(run):
    key, ids = _chosen(run), run.outputs.indices
    return (key[:, :-1] > key[:, 1:]) | ((key[:, :-1] == key[:, 1:]) & (ids[:, :-1] < ids[:, 1:]))


def _none_better(run):
    key = indexing.order_key(run.inputs["scores"])
    left = np.ones(key.shape, bool)
    np.put_along_axis(left, run.outputs.indices, False, 1)
    return ~left | (key <= _chosen(run).min(1, keepdims=True))


REQUIREMENTS = (
    Req("TOPK-1", "NaN orders above every number, -0.0 equals +0.0; no score that is left out is above one that is chosen.", _none_better),
    Req("TOPK-2", "Ids are listed in descending order of score, equal scores in ascending order of id.", _descending),
    Req("TOPK-3", "Ids are distinct and in range, whatever the scores.",
        lambda r: (np.diff(np.sort(r.outputs.indices, 1), axis=1) > 0).all() & (r.outputs.indices >= 0).all()
        & (r.outputs.indices < r.dims.E).all()),
    Req("TOPK-4", "A given selection is returned as it is.",
        lambda r: r.rerun(indices=np.flip(r.outputs.indices, 1)).indices == np.flip(r.outputs.indices, 1)),
)

OP = Op(
    name="gates.topk",
    inputs=(Arg("scores", "T E", grad=False), Arg("indices", "T K", "index", of="E", optional=True)),
    outputs=(Arg("indices", "T K", "index", of="E"),),
    forward=topk,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, E, K, **_: (T * E, 0),
    refs=("Shazeer et al. 2017, eq. 5",),
)
