"""What a layer runs: its program, fused for a backend, made once for all calls that differ in their arrays only."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, NamedTuple

from moespec.backend import resolver
from moespec.fuse import fuse
from moespec.layer._build import build, final_routing
from moespec.layer._build_router import Names
from moespec.layer._inputs import REPLAY, dtype_of, follows, quiet, require_params, rows_of
from moespec.layer._params import parameter_shapes
from moespec.op import Step
from moespec.program import Call, calls

PLANS = 256             # that a declaration keeps
SHAPE = attrgetter("shape")


class Plan(NamedTuple):
    """A program for arrays of given shapes on one backend."""

    steps: tuple[Step, ...]         # as they are run
    calls: tuple[Call, ...]         # their implementations
    reads: frozenset[str]           # names that the program reads, those inside fused lines too
    routing: Names | None           # of the routing that the experts see
    made: Mapping[str, Callable]    # what makes an array that is read but not given
    params: tuple[str, ...]
    shape: tuple[int, ...]          # of x
    backend: Any


def plan(spec, params, x, given, backend, *, training: bool, keep) -> Plan:
    """What runs where the names `given` have a value: looked up by everything but numbers, so that it is checked and made once.

    The declaration keeps it.  A backend is known by its id, since nobody says that it can be hashed; the plan holds it, and with it its id.
    """
    keep = keep if isinstance(keep, str) else frozenset(keep)
    key = (id(backend), x.shape, x.dtype, training, keep, given, tuple(map(SHAPE, params.values())))
    found = spec.plans.get(key)
    if found is None:
        require_params(params, parameter_shapes(spec, x.shape[-1]), x)
        found = _made(spec, tuple(params), x, given, backend, training, keep)
        if len(spec.plans) >= PLANS:
            spec.plans.clear()
        spec.plans[key] = found
    return found


def _made(spec, params, x, given, backend, training, keep):
    tokens, rows, dtype = math.prod(x.shape[:-1]), rows_of(x), dtype_of(backend, x)
    makers = follows(spec, tokens, rows, dtype) | ({} if training else quiet(spec, tokens, dtype))
    steps = build(spec, tokens, rows=rows, training=training, inputs=[*given, *REPLAY, *makers])
    reads = frozenset(name for step in steps for name in step.reads.split())
    keep = keep if keep == "all" else frozenset([keep] if isinstance(keep, str) else keep)
    _require_known(steps, reads, given, keep)
    fused = steps if keep == "all" else fuse(steps, backend.ops(), keep)
    made = {name: make for name, make in makers.items() if name in reads and name not in given}
    return Plan(fused, calls(fused, resolver(backend)), reads, final_routing(steps), made, params, tuple(x.shape), backend)


def _require_known(steps, reads, given, keep):
    """Refuse noise that no step reads, and names to keep that no step knows."""
    if unread := [n.removeprefix("noise.") for n in given if n.startswith("noise.") and n not in reads]:
        wanted = [n.removeprefix("noise.") for n in sorted(reads) if n.startswith("noise.")]
        raise ValueError(f"forward: nothing reads noise {', '.join(map(repr, unread))}; steps read {', '.join(wanted) or 'none'}")
    known = reads.union(*(step.writes.split() for step in steps))
    if keep != "all" and (unknown := keep - known):
        raise ValueError(f"forward: keep names {', '.join(map(repr, sorted(unknown)))}, which no step reads or writes; "
                         f"known are {', '.join(sorted(known - {'-'}))}")
