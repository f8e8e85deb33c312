"""The gates of a hierarchical mixture: a softmax at every node of a tree (Jordan and Jacobs 1994)."""

from typing import NamedTuple

import numpy as np

from moespec import corpus
from moespec.numerics import logsumexp, softmax, widen
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    gates: list             # per level: T nodes b, the softmax of every node
    dtype: np.dtype         # of the logits


def tree(logits, *, branching):
    r"""Log-probabilities of the leaves: along the path from the root the gates multiply.

    .. math:: y_{t, i j \cdots} = \log g_{t, i} + \log g_{t, j | i} + \cdots, \qquad
              g_{t, i} = \frac{\exp l_{t, i}}{\sum_k \exp l_{t, k}}, \quad
              g_{t, j | i} = \frac{\exp l_{t, i j}}{\sum_k \exp l_{t, i k}}

    A leaf is an expert.  What comes out is normalised, so it serves as the logits of any gate: the softmax of y is exp(y), and the
    mixture losses of y are those of the hierarchical mixture.  With one level it is the log-softmax.  `hierarchical` is the sparse
    gate of two levels, with top-k.

    Parameters
    ----------
    logits : (T, N) real
        Level after level, node after node: b1 columns of the root, then b2 of each of its b1 children, ...; for branching (2, 2):
        root 0-1, first child 2-3, second child 4-5.
    branching : sequence of int
        Children of a node of each level, from the root; (2, 2, 2) is a binary tree of 8 experts.

    Returns
    -------
    log_probs : (T, E) real
        E is the product of `branching`; the leaves from left to right.  In the dtype of `logits`.
    Saved
        The softmax of every node.

    Raises
    ------
    ValueError
        No level; a number of children below 1; another number of columns than the tree has edges.

    Notes
    -----
    A child of -inf has leaves of -inf; a NaN or +inf makes the leaves below its node NaN, and so does a node without a finite child (IEEE).

    References
    ----------
    Jordan & Jacobs 1994, section 2.
    """
    OP.admit(logits, branching=branching)
    l, gates = widen(logits), []
    leaf = np.zeros((len(l), 1), l.dtype)
    for first, nodes, children in levels(branching):
        own = l[:, first:first + nodes * children].reshape(len(l), nodes, children)
        with np.errstate(all="ignore"):
            leaf = (leaf[:, :, None] + (own - logsumexp(own, axis=2)[:, :, None])).reshape(len(l), nodes * children)
        gates.append(softmax(own, axis=2))
    return leaf.astype(logits.dtype), Saved(gates, logits.dtype)


def tree_backward(saved, dlog_probs):
    r"""At every node, what its children's leaves ask for, less the gate's share of the whole.

    .. math:: \bar l_{t, n c} = S_{t, n c} - g_{t, c | n} \sum_k S_{t, n k}, \qquad S_{t, n c} = \sum_{i \text{ below } c} \bar y_{ti}
    """
    below, found = widen(dlog_probs), []
    for gate in reversed(saved.gates):
        own = below.reshape(gate.shape)
        whole = own.sum(2)
        found.append((own - gate * whole[:, :, None]).reshape(below.shape))
        below = whole
    return np.concatenate(found[::-1], axis=1).astype(saved.dtype)


def levels(branching):
    """(first column, nodes, children of a node) of every level, from the root."""
    first, nodes = 0, 1
    for children in branching:
        yield first, nodes, children
        nodes *= children
        first += nodes


def is_branching(branching):
    """Whether it is at least one level of whole numbers, each at least 1."""
    whole = np.iterable(branching) and all(isinstance(b, int | np.integer) and b >= 1 for b in branching)
    return whole and np.ndim(branching) == 1 and len(branching) > 0


def _check(dims, logits, *, branching):
    shape = tuple(logits.shape)
    if not is_branching(branching):
        raise ValueError(f"tree: branching={branching} must be numbers of children, each at least 1 (logits has shape {shape})")
    edges = sum(nodes * children for _, nodes, children in levels(branching))
    if edges != dims.N:
        raise ValueError(f"tree: logits has shape {shape}, wanted {edges} columns, one for each edge of a tree of branching={branching}")


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for name, t, branching in (("two_levels", 5, (3, 2)), ("one_level", 6, (4,)), ("binary", 3, (2, 2, 2, 2)), ("uneven", 4, (2, 3, 4)),
                               ("one_token", 1, (2, 2)), ("no_tokens", 0, (2, 3)), ("only_children", 3, (1, 2, 1)), ("wide", 2, (65, 33))):
        n = sum(nodes * children for _, nodes, children in levels(branching))
        yield Case(name, {"logits": corpus.normal(rng, t, n)}, {"branching": branching}, frozenset({"empty"} if not t else ()))
    two = {"branching": (2, 2)}
    yield Case("scaled30", {"logits": corpus.normal(rng, 4, 6, scale=30.0)}, two, frozenset({"steep"}))
    yield Case("huge", {"logits": corpus.normal(rng, 4, 6, scale=1000.0)}, two, frozenset({"large"}))
    yield Case("all_equal", {"logits": np.full((2, 6), 0.5)}, two)
    x = corpus.normal(rng, 5, 6)
    x[0, 0] = x[1, 3] = -np.inf
    yield Case("shut_branches", {"logits": x}, two, frozenset({"inf"}))
    x = corpus.normal(rng, 4, 6)
    x[1, 2], x[2, 1], x[3, 4:] = np.nan, np.inf, -np.inf
    yield Case("nan_below_its_node", {"logits": x}, two, frozenset({"nan", "inf"}))


INVALID = (
    (Case("other_edges", {"logits": np.zeros((2, 4))}, {"branching": (2, 2)}), ValueError,
     r"^tree: logits has shape \(2, 4\), wanted 6 columns, one for each edge of a tree of branching="),
    (Case("no_level", {"logits": np.zeros((2, 0))}, {"branching": ()}), ValueError, r"^tree: branching=.* must be numbers of children"),
    (Case("no_children", {"logits": np.zeros((2, 2))}, {"branching": (2, 0)}), ValueError, r"^tree: branching=.* each at least 1"),
)


def _paths(run):
    """Every leaf by its own path: the product of the gates on it."""
    x, branching = np.asarray(run.inputs["logits"], float), run.attrs["branching"]
    if not np.isfinite(x).all():
        return None
    want = np.zeros((len(x), run.dims.E))
    for leaf in range(run.dims.E):
        inside, node = run.dims.E, 0
        for first, _, children in levels(branching):
            inside //= children
            own = x[:, first + node * children:first + (node + 1) * children]
            child = leaf // inside % children
            top = own.max(1)
            want[:, leaf] += own[:, child] - top - np.log(np.exp(own - top[:, None]).sum(1))
            node = node * children + child
    reach = np.abs(x).max(initial=1.0) * len(branching)
    return np.abs(np.asarray(run.outputs.log_probs, float) - want) <= 16 * min(run.unit, 2.0**-24) * reach + 2 * run.unit * np.abs(want)


def _node_cancels(run):
    """A common shift of a node's logits changes nothing."""
    d = np.asarray(run.grads["logits"], float)
    if not np.isfinite(np.asarray(run.inputs["logits"], float)).all():
        return None
    size = np.abs(np.asarray(run.cotangents["log_probs"], float)).sum(1)
    sums = [d[:, first:first + nodes * children].reshape(len(d), nodes, children).sum(2) for first, nodes, children in levels(run.attrs["branching"])]
    slack = (run.dims.E + 16 + 4 * np.abs(np.asarray(run.inputs["logits"], float)).max(initial=0)) * run.unit
    return np.abs(np.concatenate(sums, axis=1)) <= slack * size[:, None]


REQUIREMENTS = (
    Req("TREE-1", "The log-probability of a leaf is the sum of the log-softmaxes on its path.", _paths),
    Req("TREE-2", "The gradients of the logits of a node sum to 0.", _node_cancels),
)

OP = Op(
    name="gates.tree",
    inputs=(Arg("logits", "T N"),),
    outputs=(Arg("log_probs", "T E"),),
    forward=tree,
    backward=tree_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, N, **_: (8 * T * N, 4 * T * N),
    refs=("Jordan & Jacobs 1994, section 2",),
)
