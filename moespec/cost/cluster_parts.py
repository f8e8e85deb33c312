"""The machine: ranks on nodes, and what a link does with a message."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite

import numpy as np

from moespec.cost._devices import device
from moespec.cost._require import count

# Assumed, not measured: seconds of an exchange, and of each message.
INSIDE = {"latency": 2e-6, "overhead": 1e-7}
BETWEEN = {"latency": 5e-6, "overhead": 2e-7}


@dataclass(frozen=True)
class Link:
    """What it takes to move bytes between ranks.

    A rank that exchanges `messages` messages and `size` bytes is busy for

    .. math:: t = latency + overhead \\cdot messages + size/bandwidth
              + \\max(0, size - knee)\\,(1/beyond - 1/bandwidth)

    seconds, and for none if there is no message.  Sending and receiving go on at the same time: `size` and `messages` are the larger of both.
    """

    latency: float                # seconds, once per exchange
    bandwidth: float              # bytes per second and rank, each way
    overhead: float = 0.0         # seconds per message
    knee: float = inf             # bytes from which on `beyond` holds: buffers no longer fit a cache, another protocol
    beyond: float | None = None   # bytes per second

    def __post_init__(self):
        for name in ("latency", "overhead"):
            if not (isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(f"Link: {name}={getattr(self, name)} is not a time in seconds")
        for name in ("bandwidth", "knee", *(() if self.beyond is None else ("beyond",))):
            if not getattr(self, name) > 0:
                raise ValueError(f"Link: {name}={getattr(self, name)} is not above 0")
        if isfinite(self.knee) and self.beyond is None:
            raise ValueError(f"Link: knee={self.knee} needs the bandwidth beyond it")

    def seconds(self, size, messages):
        """The time of one exchange; arrays of sizes and numbers of messages give an array of times."""
        size, messages = np.asarray(size, np.float64), np.asarray(messages, np.float64)
        time = self.latency + self.overhead * messages + size / self.bandwidth
        if self.beyond is not None:
            time = time + np.maximum(size - self.knee, 0) * (1 / self.beyond - 1 / self.bandwidth)
        return np.where(messages > 0, time, 0.0)


@dataclass(frozen=True)
class Cluster:
    """Ranks 0, 1, ... in nodes of `per_node` consecutive ones; the last node may have fewer.

    `intra` joins the ranks of a node, `inter` the nodes: `inter.bandwidth` is that of one rank's part of its node's adapters.
    """

    ranks: int
    per_node: int
    intra: Link
    inter: Link
    flops: float                  # peak of a rank, floating-point operations per second
    memory_bandwidth: float       # bytes per second
    efficiency: float = 1.0       # the part of the peak that products reach

    def __post_init__(self):
        for name in ("ranks", "per_node"):
            count("Cluster", name, getattr(self, name), least=1)
        for name in ("flops", "memory_bandwidth", "efficiency"):
            if not getattr(self, name) > 0:
                raise ValueError(f"Cluster: {name}={getattr(self, name)} is not above 0")
        if self.efficiency > 1:
            raise ValueError(f"Cluster: efficiency={self.efficiency} exceeds 1")

    def seconds(self, flops, size):
        """The time of a computation: what its operations or its bytes of memory take, whichever is longer."""
        return np.maximum(np.asarray(flops) / (self.flops * self.efficiency), np.asarray(size) / self.memory_bandwidth)


def cluster_of(name: str, ranks: int, *, dtype: str = "bfloat16", efficiency: float = 0.6) -> Cluster:
    """Ranks that are devices of the table (`moespec.cost.DEVICES`); latencies are assumed: `INSIDE` and `BETWEEN` nodes.

    A device whose network between nodes is not known makes one node of all ranks.
    """
    one = device(name)
    inside = Link(bandwidth=one.within, **INSIDE)
    between = inside if one.between is None else Link(bandwidth=one.between, **BETWEEN)
    return Cluster(ranks, max(1, ranks) if one.between is None else one.per_node, inside, between, one.peak(dtype), one.memory, efficiency)
