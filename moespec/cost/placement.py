"""Which rank holds which experts, and how often: contiguous blocks, round robin, and load balancing with replicas (EPLB).

`eplb` follows the expert-parallel load balancer that DeepSeek published: replicas go, one after the other, to the expert with the
highest load per replica; what has to be spread is packed longest first into the emptiest bin with room.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

import numpy as np

from moespec.cost._require import count


@dataclass(frozen=True, eq=False)
class Placement:
    """`slots` [R, S]: the expert in each place of each rank, -1 for an empty place; every expert has at least one place."""

    slots: np.ndarray = field(repr=False)
    experts: int

    def __post_init__(self):
        slots = np.asarray(self.slots)
        if slots.ndim != 2 or slots.dtype.kind not in "iu":
            raise ValueError(f"Placement: slots is {slots.dtype.name}{list(slots.shape)}, wanted integers R S")
        if slots.size and not -1 <= slots.min() <= slots.max() < self.experts:
            raise ValueError(f"Placement: slots holds {slots.min()} .. {slots.max()}, wanted -1 .. {self.experts - 1}")
        object.__setattr__(self, "slots", slots.astype(np.int64))
        if self.experts < 1 or not self.copies.all():
            raise ValueError(f"Placement: {np.flatnonzero(self.copies == 0)[:8].tolist()} of {self.experts} experts have no place")

    @property
    def ranks(self) -> int:
        """How many ranks there are."""
        return len(self.slots)

    @property
    def copies(self) -> np.ndarray:
        """[E]: the places that hold the expert."""
        return np.bincount(self.slots[self.slots >= 0], minlength=self.experts)

    def share(self, load) -> np.ndarray:
        """[R, S]: the load of each place; the replicas of an expert share it equally."""
        load = np.asarray(load, np.float64)
        if load.shape != (self.experts,):
            raise ValueError(f"Placement: load has shape {load.shape}, wanted ({self.experts},)")
        each = load / self.copies
        return np.where(self.slots >= 0, each[np.maximum(self.slots, 0)], 0.0)

    def loads(self, load) -> np.ndarray:
        """[R]: the load of each rank."""
        return self.share(load).sum(1)


def contiguous(experts: int, ranks: int) -> Placement:
    """Blocks of consecutive experts, the sizes of `numpy.array_split`."""
    _counts("contiguous", experts=experts, ranks=ranks)
    return _padded(np.array_split(np.arange(experts), ranks), experts)


def round_robin(experts: int, ranks: int) -> Placement:
    """Expert e on rank e mod R."""
    _counts("round_robin", experts=experts, ranks=ranks)
    return _padded([np.arange(rank, experts, ranks) for rank in range(ranks)], experts)


def eplb(load, ranks: int, *, slots: int, nodes: int = 1, groups: int = 1) -> Placement:
    """Replicate hot experts and pack the replicas so that the ranks' loads are near equal.

    With groups of experts that divide among the nodes, a group stays on one node (what node-limited routing wants): groups are packed
    onto nodes, then each node replicates and packs its own experts.  Otherwise replicas are packed onto all ranks at once, or left out
    in the rare case that blocks or round robin are more even.

    Parameters
    ----------
    load : array_like [E]
        How often each expert is chosen, in any unit.
    ranks, slots : int
        Ranks, and places on each; together at least E.
    nodes, groups : int
        Nodes of ranks / nodes consecutive ranks; groups of E / groups consecutive experts.

    Raises
    ------
    ValueError
        Too few places, negative load, or numbers that do not divide.
    """
    load = np.asarray(load, np.float64)
    _check(load, ranks, slots, nodes, groups)
    if groups % nodes or groups == 1:
        nodes = groups = 1
    members = np.arange(len(load)).reshape(groups, -1)
    table = []
    for held in pack(load.reshape(groups, -1).sum(1), nodes):
        own = np.sort(members[held].reshape(-1))
        table.append(own[_node(load[own], ranks // nodes, slots)])
    found = [Placement(np.concatenate(table), len(load))]
    if nodes == 1:
        found += [round_robin(len(load), ranks), contiguous(len(load), ranks)]
    return min(found, key=lambda placement: placement.loads(load).max())


def replicate(load, places: int) -> np.ndarray:
    """[places]: every expert once, then each further replica, to the highest load per replica (ties to the lower id)."""
    found = list(range(len(load)))
    copies = [1] * len(load)
    heap = [(-each, expert) for expert, each in enumerate(load)]
    heapq.heapify(heap)
    for _ in range(places - len(load)):
        _, expert = heap[0]
        copies[expert] += 1
        found.append(expert)
        heapq.heapreplace(heap, (-load[expert] / copies[expert], expert))
    return np.array(found)


def pack(weights, bins: int) -> np.ndarray:
    """[bins, n / bins]: items, equally many a bin: heaviest first, each into the lightest bin that has room."""
    room = len(weights) // bins
    held: list[list[int]] = [[] for _ in range(bins)]
    heap = [(0.0, b) for b in range(bins)]
    for item in np.argsort(-np.asarray(weights), kind="stable"):
        total, b = heapq.heappop(heap)
        held[b].append(int(item))
        if len(held[b]) < room:
            heapq.heappush(heap, (total + weights[item], b))
    return np.array(held, np.int64).reshape(bins, room)


def _node(load, ranks, slots):
    """[ranks, slots]: experts of one node."""
    replica = replicate(load, ranks * slots)
    return replica[pack((load / np.bincount(replica))[replica], ranks)]


def _check(load, ranks, slots, nodes, groups):
    if load.ndim != 1 or not (np.isfinite(load) & (load >= 0)).all():
        raise ValueError(f"eplb: load is not E finite numbers of at least 0 (load has shape {load.shape})")
    _counts("eplb", experts=len(load), ranks=ranks, nodes=nodes, groups=groups)
    if ranks * count("eplb", "slots", slots) < len(load):
        raise ValueError(f"eplb: {ranks} ranks of {slots} places cannot hold {len(load)} experts")
    if ranks % nodes or len(load) % groups:
        raise ValueError(f"eplb: {nodes} nodes do not divide {ranks} ranks, or {groups} groups not {len(load)} experts")


def _counts(name, **numbers):
    for what, value in numbers.items():
        count(name, what, value, least=1)


def _padded(blocks, experts):
    slots = np.full((len(blocks), max(map(len, blocks))), -1, np.int64)
    for rank, block in enumerate(blocks):
        slots[rank, :len(block)] = block
    return Placement(slots, experts)
