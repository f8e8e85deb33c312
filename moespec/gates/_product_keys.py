"""Retrieval by product keys: the best of n^2 experts from two lists of n scores (Lample et al. 2019; PEER)."""

from typing import NamedTuple

import numpy as np

from moespec import corpus, indexing
from moespec.gates._topk import require_k
from moespec.numerics import widen
from moespec.op import Arg, Case, Op, Req


class ProductKeys(NamedTuple):
    """The experts found, and their scores."""

    indices: np.ndarray     # T K
    scores: np.ndarray      # T K


class Saved(NamedTuple):
    halves: tuple           # T K each: the two coordinates, -1 = none
    keys: int
    dtypes: tuple           # of first and second


def product_keys(first, second, indices=None, *, k=None):
    r"""Find the `k` best pairs of keys.

    .. math:: A_t = \mathrm{top}_h(a_t), \quad B_t = \mathrm{top}_h(b_t), \quad h = \min(k, n), \qquad
              i_t = \underset{(p, q) \in A_t \times B_t}{\mathrm{top}_k} (a_{tp} + b_{tq}), \qquad s_{t, (p, q)} = a_{tp} + b_{tq}

    The expert of the pair (p, q) has the id p n + q.  All three selections use the normative order (NaN above every number, ties to the
    lower index or id).  As long as no sum is rounded the result is that of a top-k over all n^2 sums: a pair outside the candidates has k
    pairs at least as good, with lower ids, before it.  Weights follow by `selected_softmax`.

    Parameters
    ----------
    first, second : (T, n) real
        Scores of the two halves of a query against their keys.
    indices : (T, K) integer, optional
        A given selection of ids below n^2; -1 = no expert, with score 0.
    k : int
        1 <= k <= n^2.  May be left out with `indices`.

    Returns
    -------
    ProductKeys(indices, scores)
        int64; the dtype of `first`.
    Saved

    Raises
    ------
    ValueError
        k out of range; an id outside -1 .. n^2-1.

    References
    ----------
    Lample et al. 2019, section 3.2; He 2024 (PEER), section 2.1.
    """
    dims = OP.admit(first, second, indices, k=k)
    a, b = widen(first), widen(second)
    indices = _search(a, b, dims.n, k or indices.shape[1], indices)
    halves = tuple(np.where(indices >= 0, part, -1) for part in np.divmod(indices, max(dims.n, 1)))
    scores = indexing.take(a, halves[0]) + indexing.take(b, halves[1])
    return ProductKeys(indices, scores.astype(first.dtype)), Saved(halves, dims.n, (first.dtype, second.dtype))


def _search(a, b, n, k, given):
    """Ids of the best pairs.  Candidates lie in ascending order of id, so that ties go to the lower one."""
    rows, columns = (np.sort(indexing.topk(half, min(k, n)), axis=1) for half in (a, b))
    pairs = len(rows), rows.shape[1] * columns.shape[1]
    sums = (indexing.take(a, rows)[:, :, None] + indexing.take(b, columns)[:, None, :]).reshape(pairs)
    ids = (rows[:, :, None] * n + columns[:, None, :]).reshape(pairs)
    place = indexing.select(sums, k, None if given is None else _places(ids, given))
    return np.take_along_axis(ids, place, 1) if given is None else given.astype(np.int64, copy=False)


def _places(ids, given):
    """Where given ids stand among the candidates; past their end for one that is none, which no margin admits."""
    found = ids[:, None, :] == given[:, :, None]
    return np.where(given < 0, -1, np.where(found.any(2), found.argmax(2), ids.shape[1]))


def product_keys_backward(saved, dscores):
    r"""A score teaches the two keys that it is the sum of.

    .. math:: \bar a_{tp} = \sum_{j : i_{tj} \text{ div } n = p} \bar s_{tj}, \qquad \bar b_{tq} = \sum_{j : i_{tj} \text{ mod } n = q} \bar s_{tj}
    """
    d = widen(dscores)
    return tuple(indexing.untake(d, half, saved.keys).astype(dtype) for half, dtype in zip(saved.halves, saved.dtypes, strict=True))


def _check(dims, first, second, indices, *, k=None):
    require_k("product_keys", k, dims.n**2, first.shape, indices, of="first")
    if indices is not None:
        indexing.require_ids("product_keys", indices, dims.n**2)


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for name, t, n, k in (("normal", 7, 5, 3), ("one_token", 1, 4, 2), ("one_key", 3, 1, 1), ("k_above_n", 4, 3, 5), ("all_pairs", 2, 3, 9),
                          ("many_keys", 2, 40, 8), ("no_tokens", 0, 4, 2)):
        case = Case(name, {"first": corpus.normal(rng, t, n), "second": corpus.normal(rng, t, n)}, {"k": k}, frozenset({"empty"} if not t else ()))
        yield case
        yield Case(f"dyadic_{name}", {half: corpus.dyadic(rng, t, n, bits=1) for half in case.inputs}, {"k": k}, case.tags | {"exact"})
    flat = {"first": np.full((2, 4), 0.5), "second": np.full((2, 4), -0.25)}
    yield Case("all_equal", flat, {"k": 5}, frozenset({"exact"}))
    yield Case("equal_sums", {"first": np.array([[0.0, 1.0, 2.0]]), "second": np.array([[2.0, 1.0, 0.0]])}, {"k": 4}, frozenset({"exact"}))
    spoilt = {"first": np.array([[0.0, np.nan, 1.0], [1.0, 2.0, -np.inf]]), "second": np.array([[3.0, 1.0, 2.0], [0.0, -np.inf, 1.0]])}
    yield Case("nan_and_minus_inf", spoilt, {"k": 4}, frozenset({"exact", "nan", "inf"}))
    ids = np.array([[24, 0], [3, -1], [-1, -1], [7, 7]])
    yield Case("given", {"first": corpus.normal(rng, 4, 5), "second": corpus.normal(rng, 4, 5), "indices": ids}, {"k": 2})


_RIGHT = {"first": np.zeros((3, 4)), "second": np.zeros((3, 4))}
INVALID = (
    (Case("k_above_pairs", _RIGHT, {"k": 17}), ValueError, r"^product_keys: k=17 exceeds the 16 experts \(first has shape \(3, 4\)\)"),
    (Case("neither", _RIGHT), ValueError, r"^product_keys: give k or indices, got neither"),
    (Case("other_keys", {**_RIGHT, "second": np.zeros((3, 5))}, {"k": 1}), ValueError, r"^product_keys: second has shape \(3, 5\), but n must be 4"),
    (Case("id_too_large", {**_RIGHT, "indices": np.full((3, 1), 16)}), ValueError, r"^product_keys: indices holds 16, outside -1 \.\. 15"),
)


def _by_force(run):
    """All n^2 sums, sorted."""
    if "exact" not in run.case.tags or run.case.tags & {"nan"}:
        return None
    n, k = run.dims.n, run.dims.K
    want = []
    for a, b in zip(*(np.asarray(run.inputs[half], float).tolist() for half in ("first", "second")), strict=True):
        want.append(sorted(range(n * n), key=lambda i: (-(a[i // n] + b[i % n]), i))[:k])
    return run.outputs.indices.tolist() == want


def _sums(run):
    a, b = (np.asarray(run.inputs[half], float) for half in ("first", "second"))
    for t, j in np.ndindex(run.outputs.indices.shape):
        i, got = run.outputs.indices[t, j], float(run.outputs.scores[t, j])
        terms = (a[t, i // run.dims.n], b[t, i % run.dims.n]) if i >= 0 else (0.0, 0.0)
        if np.isfinite(terms).all() and not abs(got - sum(terms)) <= 2 * run.unit * (abs(terms[0]) + abs(terms[1])):
            return False
    return True


REQUIREMENTS = (
    Req("PRODUCT_KEYS-1", "Where sums are exact the pairs found are the k best of all, ties to the lower id.", _by_force),
    Req("PRODUCT_KEYS-2", "The score of the id i is first[i div n] + second[i mod n]; at -1 it is 0.", _sums),
    Req("PRODUCT_KEYS-3", "Ids are distinct and in range, whatever the scores.",
        lambda r: None if r.inputs["indices"] is not None else (np.diff(np.sort(r.outputs.indices, 1), axis=1) > 0).all() & (
            r.outputs.indices >= 0).all() & (r.outputs.indices < r.dims.n**2).all()),
    Req("PRODUCT_KEYS-4", "What a token's two halves learn has the same sum.",
        lambda r: np.abs(np.asarray(r.grads["first"], float).sum(1) - np.asarray(r.grads["second"], float).sum(1)) <= (
            4 * r.dims.K * r.unit * np.abs(np.where(r.outputs.indices >= 0, np.asarray(r.cotangents["scores"], float), 0)).sum(1))),
)

OP = Op(
    name="gates.product_keys",
    inputs=(Arg("first", "T n"), Arg("second", "T n"), Arg("indices", "T K", "index", of="E", optional=True)),
    outputs=(Arg("indices", "T K", "index", of="E"), Arg("scores", "T K")),
    forward=product_keys,
    backward=product_keys_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, n, K, **_: (T * (2 * n + K * K), 2 * T * K),
    refs=("Lample et al. 2019, section 3.2", "He 2024, section 2.1"),
)
