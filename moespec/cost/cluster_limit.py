"""Node-limited routing: a token's experts lie on at most M nodes; and how many ranks or nodes a token reaches."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from math import comb

import numpy as np

from moespec.cost._require import count
from moespec.cost.cluster_load import SAMPLE, Load, Trace, Uniform, capped, systematic


@dataclass(frozen=True, eq=False)
class Limited:
    """A load of k experts a token under a limit of nodes; `node` [E] is the node that holds each expert."""

    load: Load
    node: np.ndarray = field(repr=False)
    k: int
    limit: int

    @cached_property
    def sample(self) -> np.ndarray:
        """Tokens that stand for the load where there is no closed form."""
        return self.draw(np.random.default_rng(0), SAMPLE, len(self.node), self.k)

    def inclusion(self, experts: int, k: int) -> np.ndarray:
        """[E]: equal where the load and the nodes are; otherwise from the sample."""
        if isinstance(self.load, Uniform) and np.ptp(np.bincount(self.node)) == 0:
            return self.load.inclusion(experts, k)
        return np.bincount(self.sample.reshape(-1), minlength=experts) / SAMPLE

    def draw(self, rng, tokens: int, experts: int, k: int) -> np.ndarray:
        """[T, k] ids on at most `limit` nodes."""
        return draw_limited(self.load, rng, tokens, self.node, k, self.limit)


def draw_limited(load, rng, tokens: int, node, k: int, limit: int) -> np.ndarray:
    """[T, k] ids on at most `limit` nodes.

    A token first gets its nodes, in proportion to their experts' load (none above 1), then k experts of these nodes, in
    proportion to their load.  `node` [E] is the node that holds each expert.
    """
    node = np.asarray(node)
    if isinstance(load, Trace):
        raise ValueError("draw_limited: a trace is routed already; node_limit goes with Uniform or Zipf")
    held = np.bincount(node)
    if not 1 <= limit <= len(held) or np.sort(held)[:limit].sum() < k:
        raise ValueError(f"draw_limited: k={k} experts do not fit in {limit} of {len(held)} nodes of {held.min()} experts or more")
    inclusion = load.inclusion(len(node), k)
    popular = capped(np.bincount(node, inclusion), limit)
    chosen = systematic(rng, np.broadcast_to(popular, (tokens, len(held))), limit)
    allowed = np.zeros((tokens, len(held)), bool)
    np.put_along_axis(allowed, chosen, True, 1)
    return systematic(rng, capped(np.where(allowed[:, node], inclusion, 0.0), k), k)


def reached(experts: int, k: int, domains: int, *, domains_of_node: int = 1, limit: int | None = None) -> float:
    """The expected number of distinct domains (ranks or nodes) that a token's k uniformly chosen experts lie on.

    .. math:: U = D \\left(1 - \\binom{E - E/D}{k} \\Big/ \\binom{E}{k}\\right)

    Under a limit of M nodes, E and D are those of M nodes: no more than min(M, k) nodes are reached.
    """
    for name, value, least in (("experts", experts, 1), ("k", k, 0), ("domains", domains, 1), ("domains_of_node", domains_of_node, 1),
                               ("limit", 1 if limit is None else limit, 1)):
        count("reached", name, value, least=least)
    if experts % domains or domains % domains_of_node:
        raise ValueError(f"reached: {experts} experts, {domains} domains and {domains_of_node} domains a node do not divide")
    held = experts // domains
    if limit is not None:
        domains = limit * domains_of_node
    open_ = domains * held
    if not k <= open_ <= experts:
        raise ValueError(f"reached: k={k} of {open_} open experts, {experts} in all")
    return domains * (1 - comb(open_ - held, k) / comb(open_, k))
