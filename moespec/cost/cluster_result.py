"""What `simulate` returns: times of phases and ranks, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from moespec.cost.cluster_overlap import pipelined
from moespec.cost.cluster_traffic import Flow
from moespec.cost.placement import Placement

COMPUTED = ("route", "experts")


class Phase(NamedTuple):
    """One phase of all ranks; the next begins when the slowest is through."""

    name: str                    # route, dispatch, experts or combine
    direction: str               # forward or backward
    seconds: np.ndarray          # [R], of one chunk

    @property
    def slowest(self) -> float:
        """Seconds of the slowest rank."""
        return float(self.seconds.max())


@dataclass(frozen=True, eq=False)
class Simulation:
    """What `simulate` returns.  Times are in seconds, of one layer; arrays have one entry a rank."""

    phases: tuple[Phase, ...]
    chunks: int
    form: str                              # "exact" or "expected"
    flow: Flow = field(repr=False)         # rows and messages of a dispatch, [R]
    row_bytes: tuple[int, int]             # of a row to its expert, and back
    placement: Placement = field(repr=False)

    @property
    def forward(self) -> float:
        """Seconds of forward."""
        return self._time("forward")

    @property
    def backward(self) -> float:
        """Seconds of backward."""
        return self._time("backward")

    @property
    def time(self) -> float:
        """Forward and backward."""
        return self.forward + self.backward

    @property
    def computing(self) -> float:
        """The part of `time` in which the slowest ranks compute."""
        return sum(p.slowest * self._times(p) for p in self.phases if p.name in COMPUTED)

    @property
    def exposed(self) -> float:
        """Communication that no computation hides."""
        return self.time - self.computing

    @property
    def busy(self) -> np.ndarray:
        """Each rank's own phases, without waiting for others and without overlap."""
        return sum((p.seconds * self._times(p) for p in self.phases), np.zeros(len(self.flow.rows)))

    @property
    def slowest(self) -> int:
        """The rank that is busy longest."""
        return int(self.busy.argmax())

    @property
    def mean(self) -> float:
        """Seconds that a rank is busy, on average."""
        return float(self.busy.mean())

    @property
    def utilisation(self) -> float:
        """The part of `time` that a rank computes, on average."""
        return float(sum(p.seconds.mean() * self._times(p) for p in self.phases if p.name in COMPUTED) / self.time)

    @property
    def imbalance(self) -> float:
        """Rows of the fullest rank beside the mean; 1 is balance."""
        return float(self.flow.rows.max() / max(self.flow.rows.mean(), np.finfo(float).tiny))

    def network(self, level: str, *, to: str = "out") -> np.ndarray:
        """Bytes that each rank sends (`to` = "out") or receives ("in") over "intra" or "inter", forward and backward."""
        if level not in ("intra", "inter") or to not in ("out", "in"):
            raise ValueError(f"Simulation.network: level={level!r} must be intra or inter, to={to!r} out or in")
        moved = getattr(self.flow, level)
        away, back = (moved.rows_out, moved.rows_in) if to == "out" else (moved.rows_in, moved.rows_out)
        return 2 * (away * self.row_bytes[0] + back * self.row_bytes[1])

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers: seconds, bytes of a rank (mean and largest), rows."""
        sent = {level: self.network(level) for level in ("intra", "inter")}
        return {"ranks": len(self.busy), "form": self.form, "chunks": self.chunks, "forward_s": self.forward, "backward_s": self.backward,
                "computing_s": self.computing, "exposed_s": self.exposed, "utilisation": self.utilisation, "imbalance": self.imbalance,
                "slowest_rank": self.slowest, "slowest_s": float(self.busy[self.slowest]), "mean_s": self.mean,
                "sent_bytes": {level: {"mean": float(size.mean()), "max": float(size.max())} for level, size in sent.items()},
                "phases": [{"name": p.name, "direction": p.direction, "times": self._times(p), "slowest_s": p.slowest,
                            "mean_s": float(p.seconds.mean())} for p in self.phases]}

    def _times(self, phase):
        return 1 if phase.name == "route" else self.chunks

    def _time(self, direction):
        at = {p.name: p.slowest for p in self.phases if p.direction == direction}
        order = ("dispatch", "experts", "combine") if direction == "forward" else ("combine", "experts", "dispatch")
        first, middle, last = (at[name] for name in order)
        return at["route"] + pipelined(first, middle, last, self.chunks)
