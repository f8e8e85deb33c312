"""What bounds an expert-parallel layer on a device: computing, memory or network, predicted from peaks."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from moespec.cost._devices import Device
from moespec.cost._layer import layer
from moespec.cost._ratio import Ratio, compute_to_communication
from moespec.cost._require import count
from moespec.cost._wire import width
from moespec.layer._params import parameter_shapes


class Times(NamedTuple):
    """Seconds that a pass takes at least for its operations, its memory traffic and its messages; None is not known."""

    compute: float
    memory: float
    network: float | None

    @property
    def bound(self) -> str:
        """The longest of the known ones."""
        known = {name: time for name, time in self._asdict().items() if time is not None}
        return max(known, key=known.__getitem__)

    @property
    def longest(self) -> float:
        """Seconds of what bounds the pass."""
        return getattr(self, self.bound)


class Bounds(NamedTuple):
    """One number of ranks.  `expert_parallel` of them share the experts; beyond the number of experts, groups of ranks repeat them."""

    ranks: int
    expert_parallel: int
    ratio: Ratio
    forward: Times
    backward: Times
    gradients: float            # bytes that a rank sends per step to add up gradients of parameters that several ranks hold; not in the times


def bounds(spec, d_model: int, tokens: int, ranks: int, device: Device, *, dtype="bfloat16", wire=None, copies="choice", nodes=None) -> Bounds:
    """The least times of a layer with `tokens` tokens per rank, if everything ran at its peak and overlapped; loads are even.

    Messages go to all ranks alike: of the ranks of other nodes, each gets as much as each rank of the own node.  The links within a
    node and those between nodes work at the same time.
    """
    shared = expert_parallel(spec, ranks)
    nodes = -(-shared // device.per_node) if nodes is None else nodes
    ratio = compute_to_communication(spec, d_model, shared, wire=wire or dtype, copies=copies, nodes=nodes, tokens=tokens)
    priced, peak = layer(spec, d_model, tokens, dtype=dtype, ranks=shared), device.peak(dtype)
    forward, backward = (Times(work.flops / peak, work.bytes / device.memory, _network(tokens * sent, shared, device, copies))
                         for work, sent in zip((priced.forward, priced.backward), ratio.bytes, strict=True))
    return Bounds(ranks, shared, ratio, forward, backward, _gradients(spec, d_model, ranks, shared) * width("bounds", dtype))


def expert_parallel(spec, ranks: int) -> int:
    """The largest divisor of `ranks` that does not exceed the number of experts."""
    count("expert_parallel", "ranks", ranks, least=1)
    return next(r for r in range(min(ranks, spec.experts.n), 0, -1) if ranks % r == 0)


def _network(sent, ranks, device, copies):
    """Seconds of one direction; what is sent between nodes only (copies="node") is not divided."""
    here = min(ranks, device.per_node)
    away = 1.0 if copies == "node" else (ranks - here) / max(ranks - 1, 1)
    if away and device.between is None:
        return None
    return max(sent * (1 - away) / device.within, sent * away / (device.between or device.within))


def _gradients(spec, d_model, ranks, shared):
    """Numbers that a rank sends in all-reduces: of what all ranks hold, and of experts that ranks / shared of them hold."""
    shapes = parameter_shapes(spec, d_model)
    sizes = {name: prod(shape) for name, shape in shapes.items()}
    own = sum(n for name, n in sizes.items() if name.startswith(("experts.", "pool.experts.")))
    common, repeats = sum(sizes.values()) - own, ranks // shared
    return 2 * common * (1 - 1 / ranks) + 2 * own / shared * (1 - 1 / repeats)
