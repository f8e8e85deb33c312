"""What goes over which link, from the loads of the experts alone: O(ranks) numbers, never a matrix of ranks by ranks."""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln

from moespec.cost.cluster_load import Uniform, Zipf
from moespec.cost.cluster_traffic import Flow, Level, places


def expected(rng, load, placement, per_node: int, copies: str, tokens: int, k: int, groups: int = 1) -> Flow:
    """Arrays [groups, R]: the load of every place is drawn, the rest follows in expectation.

    All ranks draw from the same distribution, so each sends every place the same part of its load.  With `in_s` rows for rank s:
    rank r sends `in_s / R` to each s, which adds up to exactly what s receives.
    """
    ranks = placement.ranks
    inclusion = load.inclusion(placement.experts, k)
    share = placement.share(inclusion)
    loads = _spread(rng, _loads(rng, np.minimum(inclusion, 1), ranks * tokens, groups), placement)
    rows = loads.sum(2)
    node = np.arange(ranks) // per_node
    by_rank = _touched(rng, load, placement, inclusion, k, np.arange(ranks))
    drawn = rows / np.maximum(ranks * tokens * share.sum(1), np.finfo(float).tiny)                # beside the mean
    goal = rows if copies == "choice" else ranks * tokens * by_rank * drawn
    if copies == "node":
        by_node = _touched(rng, load, placement, inclusion, k, node)
        means = np.maximum(np.bincount(node, share.sum(1)) * ranks * tokens, np.finfo(float).tiny)
        entering = ranks * tokens * by_node * _per_node(rows, node) / means
        levels = _forwarded(goal, entering, by_rank, by_node, node, tokens)
    else:
        levels = _direct(goal, by_rank, node, tokens)
    return Flow(rows, (loads > 0).sum(2), *levels)


def _loads(rng, inclusion, tokens, groups):
    """[groups, E]: how many tokens choose each expert; the sum is what it must be.

    Independent binomial numbers, conditioned on their sum as if they were normal: the surplus goes where the variance is.  The variances are
    those of k distinct experts a token.
    """
    variance = inclusion * (1 - inclusion)
    free = (variance > 0).sum()
    surplus = rng.binomial(tokens, inclusion, size=(groups, len(inclusion))) - tokens * inclusion
    if free > 1:
        surplus -= surplus.sum(1, keepdims=True) * variance / variance.sum()
        surplus *= np.sqrt(free / (free - 1))
    ends = np.rint(np.cumsum(np.clip(tokens * inclusion + surplus, 0, tokens), axis=1))
    ends = np.minimum(ends, round(tokens * inclusion.sum()))
    ends[:, -1] = round(tokens * inclusion.sum())
    return np.diff(ends, axis=1, prepend=0).astype(np.int64)


def _spread(rng, loads, placement):
    """[groups, R, S]: each row of an expert goes to one of its replicas, chosen at random."""
    slots = placement.slots.reshape(-1)
    found = np.where(slots >= 0, loads[:, np.maximum(slots, 0)], 0)
    by_expert, ends = np.argsort(slots, kind="stable")[(slots < 0).sum():], np.cumsum(placement.copies)
    for expert in np.flatnonzero(placement.copies > 1):
        own = by_expert[ends[expert] - placement.copies[expert]:ends[expert]]
        found[:, own] = rng.multinomial(loads[:, expert], np.full(len(own), 1 / len(own)))
    return found.reshape(len(loads), *placement.slots.shape)


def _direct(goal, by_rank, node, tokens):
    """Every row goes straight to its rank."""
    ranks = len(node)
    members = np.bincount(node)[node]
    own = _per_node(goal, node)[:, node]
    message = 1 - (1 - by_rank) ** tokens                                                         # from any rank, that there is one
    near = np.bincount(node, message)[node]
    intra = Level((own - goal) / ranks, goal * (members - 1) / ranks, near - message, message * (members - 1))
    inter = Level((goal.sum(1, keepdims=True) - own) / ranks, goal * (ranks - members) / ranks, message.sum() - near, message * (ranks - members))
    return intra, inter


def _forwarded(goal, entering, by_rank, by_node, node, tokens):
    """A row to each node, passed on inside; the ranks of a node share what enters it equally."""
    ranks = len(node)
    members = np.bincount(node)[node]
    handed = 1 - (1 - by_rank) ** (tokens * ranks / members)                                      # a rank hands on for R / members ranks
    near = np.bincount(node, handed)[node]
    intra = Level((_per_node(goal, node)[:, node] - goal) / members, goal * (members - 1) / members, near - handed, handed * (members - 1))
    message = 1 - (1 - by_node) ** tokens
    entered = entering[:, node]
    inter = Level((entering.sum(1, keepdims=True) - entered) / ranks, entered * (ranks - members) / ranks / members,
                  message.sum() - message[node], message[node] * (ranks - members) / members)
    return intra, inter


def _per_node(values, node):
    """[groups, N]: sums over the ranks of each node."""
    starts = np.flatnonzero(np.diff(node, prepend=-1))
    return np.add.reduceat(values, starts, axis=1)


def _touched(rng, load, placement, inclusion, k, domain):
    """[domains]: the probability that a token has at least one expert in each domain of ranks."""
    ranks, width = placement.slots.shape
    domains = domain[-1] + 1
    if not isinstance(load, Uniform | Zipf):
        place = places(rng, load.sample, placement)
        at = np.where(place >= 0, domain[np.maximum(place, 0) // width], -1)
        at.sort(axis=1)
        new = (at >= 0) & (np.diff(at, axis=1, prepend=-1) != 0)
        return np.bincount(at[new], minlength=domains) / len(at)
    filled = placement.slots >= 0
    key = (np.repeat(domain, width).reshape(ranks, width) * placement.experts + placement.slots)[filled]
    pair, copies = np.unique(key, return_counts=True)
    where, expert = pair // placement.experts, pair % placement.experts
    chosen = inclusion[expert] * copies / placement.copies[expert]
    with np.errstate(divide="ignore"):
        none = np.exp(np.bincount(where, np.log1p(-np.minimum(chosen, 1)), domains))
    held = np.bincount(np.repeat(domain, width)[filled.reshape(-1)], minlength=domains)
    return 1 - np.minimum(none * _without_replacement(filled.sum(), held, k), 1)


def _without_replacement(slots, held, k):
    """What k distinct slots of all change in the chance of none among `held`, beside `held` independent decisions; exact for equal loads."""
    if k >= slots:
        return np.ones(len(held))
    open_ = np.maximum(slots - held - k, 0)
    none = gammaln(slots - held + 1) - gammaln(open_ + 1) - gammaln(slots + 1) + gammaln(slots - k + 1)
    return np.where(slots - held >= k, np.exp(none - held * np.log1p(-k / slots)), 0.0)
