"""The gate of GShard: top-2 with a random second choice (Lepikhin et al. 2020, algorithm 1)."""

from typing import NamedTuple

import numpy as np

from moespec import corpus, indexing, numerics
from moespec.gates._accept import require_rule, taken
from moespec.gates._routing import Routing
from moespec.gates._softmax import through_softmax
from moespec.numerics import widen
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    probs: np.ndarray       # T E
    pair: np.ndarray        # T 2   both candidates, also a rejected one
    shares: np.ndarray      # T 2   normalised, before the decision
    total: np.ndarray       # T 1
    kept: np.ndarray        # T 2
    dtype: np.dtype


def gshard(logits, uniform, indices=None, *, rule="gshard", threshold=0.2):
    r"""Two experts by probability; the second is kept at random.

    .. math:: p_t = \mathrm{softmax}(l_t), \quad i_t = \mathrm{top}_2(p_t), \quad
              g_{tj} = \frac{p_{t i_{tj}}}{p_{t i_{t1}} + p_{t i_{t2}}}, \quad
              \text{keep the second iff } 2 g_{t2} > u_t \;\text{ (gshard), }\; g_{t2} / \mathrm{threshold} > u_t \;\text{ (threshold)}

    Normalised before the decision: a rejected second choice leaves the first its share, not 1.  Capacity follows in
    `dispatch.drop`; there a skipped choice takes no place (Mesh).

    Parameters
    ----------
    logits : (T, E) real
        E >= 2.
    uniform : (T,) real
        In [0, 1); constant under differentiation.
    indices : (T, 2) integer, optional
        A given routing (replay); -1 in the second column = rejected.
    rule : {"gshard", "threshold"}
        The paper's rule, or that of the Mesh code.
    threshold : float
        Of the second rule, > 0.

    Returns
    -------
    Routing(indices, weights)
        A rejected choice is -1 with weight 0.
    Saved

    Raises
    ------
    ValueError
        Fewer than two experts; an unknown rule; a threshold that is not positive.

    References
    ----------
    Lepikhin et al. 2020, algorithm 1; Mesh TensorFlow, moe.py (threshold 0.2).
    """
    OP.admit(logits, uniform, indices, rule=rule, threshold=threshold)
    probs = numerics.softmax(widen(logits))
    pair = _candidates(probs, indices)
    chosen = indexing.take(probs, pair)
    total = chosen.sum(1, keepdims=True)
    shares = chosen / total
    second = taken(shares[:, 1], widen(uniform), rule, threshold, None if indices is None else indices[:, 1] >= 0)
    kept = np.stack([pair[:, 0] >= 0, second & (pair[:, 1] >= 0)], 1)
    routing = Routing(np.where(kept, pair, -1).astype(np.int64), np.where(kept, shares, 0.0).astype(logits.dtype))
    return routing, Saved(probs, pair, shares, total, kept, logits.dtype)


def _candidates(probs, given):
    """The two best experts; of a given routing its own ids, and for a rejected second the best of the others."""
    pair = indexing.select(probs, 2, given)
    if given is None:
        return pair
    own = indexing.topk(probs, 2)
    other = np.where(own[:, 0] == given[:, 0], own[:, 1], own[:, 0])
    return np.stack([given[:, 0], np.where(given[:, 1] >= 0, given[:, 1], other)], 1)


def gshard_backward(saved, dweights):
    r"""Through what was kept to the normalised pair, and on through the softmax.

    .. math:: \bar p_{t i_{tj}} = \frac{1}{p_{t1} + p_{t2}} \Big( \bar g_{tj} - \sum_m g_{tm} \bar g_{tm} \Big), \qquad
              \bar g_{t2} = 0 \text{ where rejected}
    """
    d = np.where(saved.kept, widen(dweights), 0.0)
    dchosen = (d - (d * saved.shares).sum(1, keepdims=True)) / saved.total
    return through_softmax(saved.probs, indexing.untake(dchosen, saved.pair, saved.probs.shape[1])).astype(saved.dtype)


def _check(dims, logits, uniform, indices, *, rule="gshard", threshold=0.2):
    require_rule("gshard", rule, threshold, logits.shape)
    if dims.E < 2:
        raise ValueError(f"gshard: k=2 exceeds the {dims.E} experts (logits has shape {tuple(logits.shape)})")


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for case in corpus.logits(rng):
        t, e = case.inputs["logits"].shape
        if e >= 2:
            tied = {"kink"} if case.name in ("dyadic", "all_equal", "tie_lower_index", "signed_zeros") else ()   # for the second place
            case = case.add(uniform=rng.random(t), tags=tied)
            yield case
            yield case.with_("threshold", rule="threshold")
    inputs = {"logits": corpus.normal(rng, 4, 5), "uniform": np.array([0.0, 0.0, 0.9990234375, 0.9990234375])}
    yield Case("surely_accepted_or_not", inputs)
    yield Case("given", {**inputs, "indices": np.array([[0, 1], [2, -1], [4, 3], [1, -1]])})


INVALID = (
    (Case("one_expert", {"logits": np.zeros((3, 1)), "uniform": np.zeros(3)}), ValueError,
     r"^gshard: k=2 exceeds the 1 experts \(logits has shape \(3, 1\)\)"),
    (Case("rule_unknown", {"logits": np.zeros((3, 2)), "uniform": np.zeros(3)}, {"rule": "no"}), ValueError, r"^gshard: rule='no' is not one of"),
    (Case("uniform_short", {"logits": np.zeros((3, 2)), "uniform": np.zeros(2)}), ValueError, r"^gshard: uniform has shape \(2,\), but T must be 3"),
)


def _share(run):
    """The first weight is p1 / (p1 + p2) = 1 / (1 + exp(l2 - l1)), whether or not the second is kept."""
    l, ids = np.asarray(run.inputs["logits"], float), run.outputs.indices
    if run.inputs["indices"] is not None or not run.dims.T or not np.isfinite(l).all():
        return None
    first, second = -np.sort(-l, 1)[:, :2].T
    want = 1 / (1 + np.exp(second - first))
    calm = np.abs(l).max(1) < 50
    return ~calm | (ids[:, 0] < 0) | (np.abs(np.asarray(run.outputs.weights, float)[:, 0] - want) <= 4 * run.unit + 1e-5)


REQUIREMENTS = (
    Req("GSHARD-1", "The first weight is p1 / (p1 + p2), kept or not: nothing is renormalised after a rejection.", _share),
    Req("GSHARD-2", "A rejected choice is -1 with weight 0.", lambda r: (r.outputs.indices >= 0) | (r.outputs.weights == 0)),
    Req("GSHARD-3", "u = 0 accepts every second choice that has a positive share.",
        lambda r: None if r.inputs["indices"] is not None else (np.asarray(r.inputs["uniform"], float) > 0) | (
            r.outputs.indices[:, 1] >= 0) | ~np.isfinite(np.asarray(r.inputs["logits"], float)).all(1)),
)

OP = Op(
    name="gates.gshard",
    inputs=(Arg("logits", "T E"), Arg("uniform", "T", grad=False), Arg("indices", "T 2", "index", of="E", optional=True)),
    outputs=(Arg("indices", "T 2", "index", of="E"), Arg("weights", "T 2")),
    forward=gshard,
    backward=gshard_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, E, **_: (6 * T * E + 8 * T, 4 * T * E + 8 * T),
    refs=("Lepikhin et al. 2020, algorithm 1", "Mesh TensorFlow, moe.py"),
)
