"""Copy experts: ids that hand the token back, weighted."""

from typing import NamedTuple

import numpy as np

from moespec import corpus
from moespec.experts import _ids
from moespec.numerics import widen
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    x: np.ndarray           # T D
    weights: np.ndarray     # T K
    chosen: np.ndarray      # T K   whether the id is a copy expert


def copy(x, indices, weights, *, first, last=None):
    r"""What the experts `first` .. `last` - 1 give, each of which is the identity.

    .. math:: y_t = \Bigl( \sum_{j : \mathrm{first} \le i_{tj} < \mathrm{last}} w_{tj} \Bigr) x_t

    It is added to what the other experts give, and the weight is applied once.  All other ids, -1 among them, contribute
    nothing here; zero experts are ids that nobody computes.  A token without a copy expert gives 0, whatever it holds.

    Parameters
    ----------
    x : (T, D) real
    indices : (T, K) integer
        -1 = none; an id may repeat, and both contribute.
    weights : (T, K) real
    first : int
        The first id that is a copy expert, at least 0.
    last : int, optional
        One more than the last; without it all ids from `first` on are.

    Returns
    -------
    y : (T, D) real
        In the dtype of `x`; weights are added up in float32 at least.
    Saved
        The inputs.

    Raises
    ------
    ValueError
        An id below -1; `first` below 0; `last` below `first`.

    References
    ----------
    Jin et al. 2024 (MoE++); Meituan 2025 (LongCat-Flash): zero-computation experts.
    """
    OP.admit(x, indices, weights, first=first, last=last)
    chosen = _ids.within(indices, first, last)
    total = np.where(chosen, widen(weights), 0.0).sum(1, keepdims=True)
    y = np.where(chosen.any(1, keepdims=True), total * widen(x), 0.0)
    return y.astype(x.dtype), Saved(x, weights, chosen)


def copy_backward(saved, dy):
    r"""As of a product; weights of other ids get 0.

    .. math:: \bar x_t = \bar y_t \sum_j w_{tj}, \qquad \bar w_{tj} = \langle x_t, \bar y_t \rangle, \qquad
              \mathrm{first} \le i_{tj} < \mathrm{last}
    """
    d, chosen = widen(dy), saved.chosen
    total = np.where(chosen, widen(saved.weights), 0.0).sum(1, keepdims=True)
    dx = np.where(chosen.any(1, keepdims=True), total * d, 0.0)
    dweights = np.where(chosen, (widen(saved.x) * d).sum(1, keepdims=True), 0.0)
    return dx.astype(saved.x.dtype), dweights.astype(saved.weights.dtype)


def _check(dims, x, indices, weights, *, first, last=None):
    _ids.require_first("copy", indices, first)
    if last is not None and last < first:
        raise ValueError(f"copy: last={last} must be at least first={first} (indices has shape {tuple(indices.shape)})")


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for case in _ids.tokens(rng):
        for name, attrs in (("", {"first": 3}), ("between", {"first": 2, "last": 4})):
            nobody = not _ids.within(case.inputs["indices"], **attrs).any()
            yield case._replace(tags=case.tags | ({"exact"} if nobody else set())).with_(name, **attrs)
    ids = np.array([[0, 3], [3, 3], [1, -1]])
    yield Case("nobody", {"x": corpus.normal(rng, 3, 2), "indices": ids, "weights": corpus.normal(rng, 3, 2)}, {"first": 4},
               frozenset({"exact"}))
    yield Case("empty_range", {"x": corpus.normal(rng, 3, 2), "indices": ids, "weights": corpus.normal(rng, 3, 2)}, {"first": 3, "last": 3},
               frozenset({"exact"}))
    spoilt = corpus.normal(rng, 3, 2)
    spoilt[2] = np.nan
    yield Case("nan_without_copy", {"x": spoilt, "indices": ids, "weights": corpus.normal(rng, 3, 2)}, {"first": 3}, frozenset({"nan"}))
    yield Case("nan_copied", {"x": spoilt, "indices": ids, "weights": corpus.normal(rng, 3, 2)}, {"first": 1}, frozenset({"nan"}))
    many = np.full((1, 300), 7)                                       # a bfloat16 sum of ones sticks at 256
    yield Case("many_copies", {"x": np.array([[1.0, -2.0]]), "indices": many, "weights": np.ones((1, 300))}, {"first": 7},
               frozenset({"exact"}))


RIGHT = {"x": np.zeros((4, 3)), "indices": np.zeros((4, 2), int), "weights": np.zeros((4, 2))}
INVALID = (
    *_ids.first_errors("copy", **RIGHT),
    (Case("last_below_first", RIGHT, {"first": 3, "last": 2}), ValueError, r"^copy: last=2 must be at least first=3"),
)


def _chosen(run):
    ids, last = run.inputs["indices"], run.attrs.get("last")
    return np.isin(ids, np.arange(run.attrs["first"], ids.max(initial=0) + 1 if last is None else last))


def _each_token(run):
    """Choice by choice."""
    x, w, ids = np.asarray(run.inputs["x"], float), np.asarray(run.inputs["weights"], float), _chosen(run)
    want, size = np.zeros(x.shape), np.zeros(x.shape)
    for t, j in np.argwhere(ids):
        want[t] += w[t, j] * x[t]
        size[t] += np.abs(w[t, j] * x[t])
    return _ids.near(run, run.outputs.y, want, size, run.dims.K + 4)


def _moved(run):
    """Ids and range moved by 7."""
    ids = np.where(run.inputs["indices"] < 0, -1, run.inputs["indices"] + 7)
    last = run.attrs.get("last")
    y = run.rerun(indices=ids, first=run.attrs["first"] + 7, last=None if last is None else last + 7).y
    return np.array_equal(y, run.outputs.y, equal_nan=True)


REQUIREMENTS = (
    Req("COPY-1", "A token's copy experts give the token itself, each times its weight, once.", _each_token),
    Req("COPY-2", "A token without a copy expert gives 0 and gets gradient 0, whatever it holds.",
        lambda r: _chosen(r).any(1, keepdims=True) | ((r.outputs.y == 0) & (r.grads["x"] == 0))),
    Req("COPY-3", "Weights of other ids get gradient 0.", lambda r: _chosen(r) | (r.grads["weights"] == 0)),
    Req("COPY-4", "Copy experts are alike: which of them it is does not matter.", _moved),
)

OP = Op(
    name="experts.copy",
    inputs=(Arg("x", "T D"), Arg("indices", "T K", "index"), Arg("weights", "T K")),
    outputs=(Arg("y", "T D"),),
    forward=copy,
    backward=copy_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, K, D, **_: (T * (K + D), T * (3 * D + K)),
    refs=("Jin et al. 2024 (MoE++)", "Meituan 2025 (LongCat-Flash)"),
)
