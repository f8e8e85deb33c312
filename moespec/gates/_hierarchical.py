"""Two-level gating: groups first, then experts within each chosen group (Shazeer et al. 2017, appendix B)."""

from typing import NamedTuple

import numpy as np

from moespec import corpus, indexing, numerics
from moespec.gates._routing import Routing
from moespec.gates._softmax import through_softmax
from moespec.numerics import widen
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    group_weights: np.ndarray   # T A
    indices: np.ndarray         # T B
    shares: list                # per chosen group: T k, the secondary weights
    experts: int
    dtype: np.dtype             # of the logits


def hierarchical(group_indices, group_weights, logits, indices=None, *, k, groups):
    r"""Top-k and softmax within every chosen group, times the group's weight.

    .. math:: w_{t, g j} = G^p_{tg} \, G^{(g)}_{tj}, \qquad G^{(g)}_t = \mathrm{softmax}(\mathrm{top}_k(l_{t, g \cdot}))

    The experts of group g are g M .. (g+1) M - 1 with M = E / groups.  Listed by chosen group, then in descending order of their logit.

    Parameters
    ----------
    group_indices : (T, A) integer
        From the primary gate; -1 = none, its k entries are -1.
    group_weights : (T, A) real
    logits : (T, E) real
        Of all secondary gates, group beside group.
    indices : (T, A k) integer, optional
        A given selection (replay).
    k, groups : int
        Experts per chosen group, 1 <= k <= M, and the number of groups.

    Returns
    -------
    Routing(indices, weights)
        A k columns; the dtype of `logits`.
    Saved

    Raises
    ------
    ValueError
        groups does not divide E; k out of range; a group id out of range; a given selection of another width, or outside its group.

    References
    ----------
    Shazeer et al. 2017, eq. 12.
    """
    dims = OP.admit(group_indices, group_weights, logits, indices, k=k, groups=groups)
    size = dims.E // groups
    l, gw = widen(logits), widen(group_weights)
    found, shares, weights = [], [], []
    for a in range(dims.A):
        first = group_indices[:, a:a + 1] * size                              # T 1   the group's first expert
        live = group_indices[:, a:a + 1] >= 0
        own = indexing.take(l, np.where(live, first + np.arange(size), -1), -np.inf)
        given = None if indices is None else np.where(indices[:, a * k:(a + 1) * k] >= 0, indices[:, a * k:(a + 1) * k] - first, -1)
        local = indexing.select(own, k, given)
        here = live & (local >= 0)
        share = numerics.softmax(indexing.take(own, local, -np.inf), where=here)
        found.append(np.where(here, first + local, -1))
        shares.append(share)
        weights.append(np.where(here, gw[:, a:a + 1] * share, 0.0))
    ids = np.concatenate(found, 1).astype(np.int64)
    routing = Routing(ids, np.concatenate(weights, 1).astype(logits.dtype))
    return routing, Saved(group_weights, ids, shares, dims.E, logits.dtype)


def hierarchical_backward(saved, dweights):
    r"""The product rule, and inside every chosen group the Jacobian of a softmax.

    .. math:: \bar G^p_{tg} = \sum_j G^{(g)}_{tj} \bar w_{t,gj}, \qquad
              \bar l_{t,gj} = G^{(g)}_{tj} \Big( \overline{G^{(g)}}_{tj} - \sum_m G^{(g)}_{tm} \overline{G^{(g)}}_{tm} \Big), \qquad
              \overline{G^{(g)}}_{tj} = G^p_{tg} \bar w_{t,gj}
    """
    gw, d, k = widen(saved.group_weights), widen(dweights), saved.indices.shape[1] // max(len(saved.shares), 1)
    dgroups, dchosen = [], []
    for a, share in enumerate(saved.shares):
        dw = np.where(saved.indices[:, a * k:(a + 1) * k] >= 0, d[:, a * k:(a + 1) * k], 0.0)
        dgroups.append((share * dw).sum(1))
        dchosen.append(through_softmax(share, gw[:, a:a + 1] * dw))
    dlogits = indexing.untake(np.concatenate(dchosen, 1), saved.indices, saved.experts)
    return np.stack(dgroups, 1).astype(saved.group_weights.dtype), dlogits.astype(saved.dtype)


def _check(dims, group_indices, group_weights, logits, indices, *, k, groups):
    if groups < 1 or dims.E % groups:
        raise ValueError(f"hierarchical: groups={groups} must divide the {dims.E} experts (logits has shape {tuple(logits.shape)})")
    size = dims.E // groups
    if not 1 <= k <= size:
        raise ValueError(f"hierarchical: k={k} must be in 1 .. {size}, the experts of a group (logits has shape {tuple(logits.shape)})")
    if indices is not None and indices.shape[1] != dims.A * k:
        raise ValueError(f"hierarchical: indices has shape {indices.shape}, wanted {dims.A * k} columns")
    if group_indices.size and not -1 <= group_indices.min() <= group_indices.max() < groups:
        raise ValueError(f"hierarchical: group_indices holds {group_indices.min()} .. {group_indices.max()}, outside -1 .. {groups - 1}")
    if indices is not None and ((indices >= 0) & (indices // size != np.repeat(group_indices, k, axis=1))).any():
        raise ValueError("hierarchical: a given expert lies outside its chosen group")


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for name, t, g, m, a, k in (("normal", 5, 3, 4, 2, 2), ("one_token", 1, 2, 3, 1, 2), ("one_group", 4, 1, 5, 1, 2),
                                ("one_expert_each", 4, 4, 1, 2, 1), ("whole_groups", 3, 2, 3, 2, 3), ("no_tokens", 0, 2, 3, 1, 2)):
        ids = np.argsort(rng.random((t, g)), axis=1)[:, :a]
        weights = np.exp(corpus.normal(rng, t, a))
        inputs = {"group_indices": ids, "group_weights": weights / np.maximum(weights.sum(1, keepdims=True), 1e-9)}
        tags, attrs = frozenset({"empty"} if not t else ()), {"k": k, "groups": g}
        yield Case(name, {**inputs, "logits": corpus.normal(rng, t, g * m)}, attrs, tags)
        yield Case(f"{name}_dyadic", {**inputs, "logits": corpus.dyadic(rng, t, g * m, bits=0, high=2)}, attrs, tags)
    missing = {"group_indices": np.array([[0, -1], [-1, -1], [2, 1]]), "group_weights": np.array([[1.0, 0.5], [0.5, 0.5], [0.25, 0.75]])}
    yield Case("missing_groups", {**missing, "logits": corpus.normal(rng, 3, 6)}, {"k": 1, "groups": 3})
    yield Case("given", {**missing, "logits": corpus.normal(rng, 3, 6), "indices": np.array([[1, -1], [-1, -1], [4, -1]])}, {"k": 1, "groups": 3})
    spoilt = corpus.normal(rng, 3, 6)
    spoilt[0, 5], spoilt[2, 4] = np.nan, np.nan
    yield Case("nan_in_a_group", {**missing, "logits": spoilt}, {"k": 2, "groups": 3}, frozenset({"nan"}))


_RIGHT = {"group_indices": np.zeros((2, 1), int), "group_weights": np.ones((2, 1)), "logits": np.zeros((2, 6))}
INVALID = (
    (Case("groups_do_not_divide", _RIGHT, {"k": 1, "groups": 4}), ValueError, r"^hierarchical: groups=4 must divide the 6 experts"),
    (Case("k_above_group", _RIGHT, {"k": 4, "groups": 2}), ValueError, r"^hierarchical: k=4 must be in 1 \.\. 3"),
    (Case("group_too_large", {**_RIGHT, "group_indices": np.full((2, 1), 2)}, {"k": 1, "groups": 2}), ValueError,
     r"^hierarchical: group_indices holds 2 \.\. 2, outside -1 \.\. 1"),
    (Case("outside_its_group", {**_RIGHT, "indices": np.full((2, 1), 5)}, {"k": 1, "groups": 2}), ValueError, r"outside its chosen group"),
)


def _sums(run):
    """The weights of a chosen group's experts sum to the group's weight."""
    w, k = np.asarray(run.outputs.weights, float), run.dims.k
    live = run.outputs.indices.reshape(run.dims.T, run.dims.A, k).max(2) >= 0
    want = np.asarray(run.inputs["group_weights"], float) * live
    total = w.reshape(run.dims.T, run.dims.A, k).sum(2)
    return ~np.isfinite(total) | (np.abs(total - want) <= (k + 8) * run.unit * np.abs(want))


REQUIREMENTS = (
    Req("HIERARCHICAL-1", "The weights of a chosen group's experts sum to the weight of the group.", _sums),
    Req("HIERARCHICAL-2", "Every expert lies in its chosen group; a missing group has none.",
        lambda r: np.where(r.outputs.indices >= 0, r.outputs.indices // (r.dims.E // r.dims.groups), -1) == np.where(
            r.outputs.indices >= 0, np.repeat(r.inputs["group_indices"], r.dims.k, axis=1), -1)),
    Req("HIERARCHICAL-3", "Logits of groups that were not chosen get gradient 0.",
        lambda r: (indexing.untake(np.ones(r.outputs.indices.shape), r.outputs.indices, r.dims.E) > 0) | (r.grads["logits"] == 0)),
)

OP = Op(
    name="gates.hierarchical",
    inputs=(Arg("group_indices", "T A", "index", of="G"), Arg("group_weights", "T A"), Arg("logits", "T E"),
            Arg("indices", "T B", "index", of="E", optional=True)),
    outputs=(Arg("indices", "T B", "index", of="E"), Arg("weights", "T B", like="logits")),
    forward=hierarchical,
    backward=hierarchical_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, A, E, **_: (6 * T * A * E, 6 * T * A * E),
    refs=("Shazeer et al. 2017, eq. 12",),
)
