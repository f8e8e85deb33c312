"""What a layer runs: its program, fused for a backend, made once for all calls that differ in their arrays only."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from moespec.fuse import fuse
from moespec.layer._build import build, final_routing
from moespec.layer._build_router import Names
from moespec.op import Step


class Plan(NamedTuple):
    """A program for one number of tokens on one backend."""

    steps: tuple[Step, ...]         # as they are run
    reads: frozenset[str]           # names that the program reads, those inside fused lines too
    routing: Names | None           # of the routing that the experts see


class _Same:
    """A backend as a key: the object itself, whether or not it can be hashed."""

    def __init__(self, backend):
        self.backend = backend

    def __eq__(self, other):
        return self.backend is other.backend

    def __hash__(self):
        return id(self.backend)


def plan(spec, tokens: int, *, rows: int, training: bool, inputs, backend: Any, keep) -> Plan:
    """See `build` and `fuse`; `keep` is "all", or the names to be kept."""
    if keep != "all":
        keep = frozenset([keep] if isinstance(keep, str) else keep)
    return _plan(spec, tokens, rows, training, tuple(inputs), _Same(backend), keep)


@lru_cache(maxsize=256)
def _plan(spec, tokens, rows, training, inputs, same, keep):
    steps = build(spec, tokens, rows=rows, training=training, inputs=inputs)
    reads = frozenset(name for step in steps for name in step.reads.split())
    fused = steps if keep == "all" else fuse(steps, same.backend.ops(), keep)
    return Plan(fused, reads, final_routing(steps))
