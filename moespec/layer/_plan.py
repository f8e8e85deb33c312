"""What a layer runs: its program, fused for a backend, made once for all calls that differ in their arrays only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from moespec.fuse import fuse
from moespec.layer._build import build, final_routing
from moespec.layer._build_router import Names
from moespec.layer._inputs import REPLAY, follows, quiet
from moespec.op import Step


class Plan(NamedTuple):
    """A program for one number of tokens on one backend."""

    steps: tuple[Step, ...]         # as they are run
    reads: frozenset[str]           # names that the program reads, those inside fused lines too
    routing: Names | None           # of the routing that the experts see
    made: Mapping[str, Callable]    # what makes an array that is read but not given


class _Same:
    """A backend as a key: the object itself, whether or not it can be hashed."""

    def __init__(self, backend):
        self.backend = backend

    def __eq__(self, other):
        return self.backend is other.backend

    def __hash__(self):
        return id(self.backend)


def plan(spec, tokens: int, *, rows: int, dtype, training: bool, given, backend: Any, keep) -> Plan:
    """See `build` and `fuse`; `given` are the names that have a value, `keep` is "all", or the names to be kept."""
    if keep != "all":
        keep = frozenset([keep] if isinstance(keep, str) else keep)
    return _plan(spec, tokens, rows, dtype, training, tuple(given), _Same(backend), keep)


@lru_cache(maxsize=256)
def _plan(spec, tokens, rows, dtype, training, given, same, keep):
    makers = follows(spec, tokens, rows, dtype) | ({} if training else quiet(spec, tokens, dtype))
    steps = build(spec, tokens, rows=rows, training=training, inputs=[*given, *REPLAY, *makers])
    reads = frozenset(name for step in steps for name in step.reads.split())
    _require_known(steps, reads, given, keep)
    fused = steps if keep == "all" else fuse(steps, same.backend.ops(), keep)
    made = {name: make for name, make in makers.items() if name in reads and name not in given}
    return Plan(fused, reads, final_routing(steps), made)


def _require_known(steps, reads, given, keep):
    """Refuse noise that no step reads, and names to keep that no step knows."""
    if unread := [n.removeprefix("noise.") for n in given if n.startswith("noise.") and n not in reads]:
        wanted = [n.removeprefix("noise.") for n in sorted(reads) if n.startswith("noise.")]
        raise ValueError(f"forward: nothing reads noise {', '.join(map(repr, unread))}; steps read {', '.join(wanted) or 'none'}")
    known = reads.union(*(step.writes.split() for step in steps))
    if keep != "all" and (unknown := keep - known):
        raise ValueError(f"forward: keep names {', '.join(map(repr, sorted(unknown)))}, which no step reads or writes; "
                         f"known are {', '.join(sorted(known - {'-'}))}")
