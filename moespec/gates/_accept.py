"""Random acceptance of the second choice, as a step: both published rules (Lepikhin et al. 2020; Mesh TensorFlow)."""

from typing import NamedTuple

import numpy as np

from moespec import indexing
from moespec.numerics import widen
from moespec.op import Arg, Case, Op, Req

RULES = ("gshard", "threshold")


class Accepted(NamedTuple):
    """The routing after the decision."""

    kept: np.ndarray        # T 2
    weights: np.ndarray     # T 2


class Saved(NamedTuple):
    passed: np.ndarray      # T 2
    dtype: np.dtype


def accept(indices, weights, uniform, kept=None, *, rule="gshard", threshold=0.2):
    r"""Keep the second choice at random, more likely the larger its weight.

    .. math:: \text{gshard: } 2 w_{t2} > u_t, \qquad \text{threshold: } w_{t2} / \mathrm{threshold} > u_t

    Weights are normalised before this step and not after: when the second choice is rejected the first keeps its share.

    Parameters
    ----------
    indices : (T, 2) integer
    weights : (T, 2) real
    uniform : (T,) real
        In [0, 1); constant under differentiation.
    kept : (T, 2) integer, optional
        A given decision (replay): -1 in the second column = rejected.
    rule : {"gshard", "threshold"}
    threshold : float
        Of the second rule, > 0.

    Returns
    -------
    Accepted(kept, weights)
        A rejected choice is -1 with weight 0.
    Saved

    Raises
    ------
    ValueError
        An unknown rule, a threshold that is not positive.

    References
    ----------
    Lepikhin et al. 2020, algorithm 1; Mesh TensorFlow, moe.py (threshold).
    """
    OP.admit(indices, weights, uniform, kept, rule=rule, threshold=threshold)
    wide = widen(weights)
    second = taken(wide[:, 1], widen(uniform), rule, threshold, None if kept is None else kept[:, 1] >= 0)
    passed = np.stack([indices[:, 0] >= 0, second & (indices[:, 1] >= 0)], 1)
    found = Accepted(np.where(passed, indices, -1).astype(np.int64), np.where(passed, wide, 0.0).astype(weights.dtype))
    return found, Saved(passed, weights.dtype)


def accept_backward(saved, dweights):
    r"""What was kept passes; the decision is constant.

    .. math:: \bar w^\mathrm{in}_{tj} = [\mathrm{kept}_{tj} \ge 0] \, \bar w_{tj}
    """
    return np.where(saved.passed, widen(dweights), 0.0).astype(saved.dtype)


def _check(dims, indices, weights, uniform, kept, *, rule="gshard", threshold=0.2):
    require_rule("accept", rule, threshold, weights.shape)


def require_rule(name, rule, threshold, shape):
    """Refuse an unknown rule and a threshold that is not positive."""
    if rule not in RULES:
        raise ValueError(f"{name}: rule={rule!r} is not one of {', '.join(RULES)}")
    if not threshold > 0:
        raise ValueError(f"{name}: threshold={threshold} must be above 0 (weights has shape {tuple(shape)})")


def taken(second, uniform, rule, threshold, given=None):
    """bool[T]: whether the second choice is accepted."""
    return indexing.decide((2.0 * second if rule == "gshard" else second / float(threshold)) > uniform, given)


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    share = rng.uniform(0.5, 1.0, (8, 1))
    ids = np.argsort(rng.random((8, 4)), axis=1)[:, :2]
    inputs = {"indices": ids, "weights": np.concatenate([share, 1 - share], 1), "uniform": rng.random(8)}
    yield Case("normal", inputs)
    yield Case("threshold", inputs, {"rule": "threshold"})
    yield Case("some_missing", {**inputs, "indices": np.where(rng.random((8, 2)) < 0.4, -1, ids)})
    edge = {"indices": np.tile([0, 1], (3, 1)), "weights": np.array([[0.75, 0.25], [0.5, 0.5], [1.0, 0.0]]), "uniform": np.array([0.5, 0.0, 0.0])}
    yield Case("at_the_edge_is_rejected", edge, {}, frozenset({"exact"}))
    yield Case("given", {**inputs, "kept": np.where(np.arange(8)[:, None] % 2 == [0, 0], ids, [[-1, -1]])}, {}, frozenset({"exact_forward"}))
    yield Case("no_tokens", {"indices": np.zeros((0, 2), int), "weights": np.zeros((0, 2)), "uniform": np.zeros(0)}, {}, frozenset({"empty"}))


_RIGHT = {"indices": np.zeros((2, 2), int), "weights": np.zeros((2, 2)), "uniform": np.zeros(2)}
INVALID = (
    (Case("rule_unknown", _RIGHT, {"rule": "always"}), ValueError, r"^accept: rule='always' is not one of gshard, threshold"),
    (Case("threshold_zero", _RIGHT, {"rule": "threshold", "threshold": 0.0}), ValueError, r"^accept: threshold=0.0 must be above 0"),
    (Case("three_choices", {**_RIGHT, "indices": np.zeros((2, 3), int)}), ValueError, r"^accept: indices has shape \(2, 3\), but 2 must be 2"),
)


def _sure(run):
    """A certain acceptance (u = 0, a positive weight) and a certain rejection (weight 0)."""
    if run.inputs["kept"] is not None:
        return None
    w, u, second = np.asarray(run.inputs["weights"], float)[:, 1], np.asarray(run.inputs["uniform"], float), run.outputs.kept[:, 1] >= 0
    there = run.inputs["indices"][:, 1] >= 0
    return (~there | (u > 0) | (w <= 0) | second) & (~second | (w > 0))


REQUIREMENTS = (
    Req("ACCEPT-1", "The first choice always stays, with its weight unchanged.",
        lambda r: (r.outputs.kept[:, 0] == r.inputs["indices"][:, 0]) & (
            (r.outputs.weights[:, 0] == r.inputs["weights"][:, 0]) | (r.inputs["indices"][:, 0] < 0))),
    Req("ACCEPT-2", "Weight 0 is never accepted, u = 0 always accepts a positive weight.", _sure),
    Req("ACCEPT-3", "A rejected choice is -1 with weight 0 and gradient 0.",
        lambda r: (r.outputs.kept >= 0) | ((r.outputs.weights == 0) & (r.grads["weights"] == 0))),
)

OP = Op(
    name="gates.accept",
    inputs=(Arg("indices", "T 2", "index", of="E"), Arg("weights", "T 2"), Arg("uniform", "T", grad=False),
            Arg("kept", "T 2", "index", of="E", optional=True)),
    outputs=(Arg("kept", "T 2", "index", of="E"), Arg("weights", "T 2")),
    forward=accept,
    backward=accept_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, **_: (3 * T, 2 * T),
    refs=("Lepikhin et al. 2020, algorithm 1", "Mesh TensorFlow, moe.py"),
)
