"""What a rank runs: the program of the whole batch, rewritten for its part, made once for all calls that differ in their arrays only."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from moespec import program
from moespec.layer._build import build, final_routing
from moespec.layer._build_router import Names
from moespec.layer._init import draw, silent
from moespec.layer._inputs import REPLAY, follows
from moespec.layer._params import parameter_shapes
from moespec.op import Step
from moespec.parallel._batch import Batch
from moespec.parallel._rewrite import ABSENT, EITHER, LOCAL, OWN, SAME, Parts, rewrite
from moespec.parallel._shard import cut, sharded
from moespec.program import lookup


class Call(NamedTuple):
    """What a program is made for; hashable."""

    batch: Batch
    training: bool
    given: tuple[str, ...]          # inputs that are not None, parameters and noise among them
    context: tuple[str, ...]
    ordered: bool
    chunks: int


class Plan(NamedTuple):
    """A program for one rank."""

    steps: tuple[Step, ...]
    reads: frozenset[str]           # names that the layer's own program reads
    routing: Names | None           # of the routing that the experts see


@lru_cache(maxsize=256)
def plan(spec, call: Call) -> Plan:
    """The program of one rank; see `rewrite`."""
    batch, made = call.batch, follows(spec, 0, 0, "float64")
    inputs = dict.fromkeys((*call.given, *REPLAY, *made))
    steps = build(spec, sum(batch.tokens), rows=batch.rows, training=call.training, inputs=inputs)
    places = {name: _place(spec, name, call, made, steps) for name in inputs}
    parts = Parts(batch.rank, batch.tokens, {name: cut(name, spec, len(batch.tokens)) for name in sharded(spec)})
    mine = rewrite(steps, places, parts, ordered=call.ordered, chunks=call.chunks)
    program.check(mine, [*inputs, *(f"{name}@all" for name in made)])
    return Plan(mine, frozenset(name for step in steps for name in step.reads.split()), final_routing(steps))


def _place(spec, name, call, made, steps):
    if name == "x" or name.startswith("noise."):
        return LOCAL
    if name in REPLAY and name in call.context:
        return LOCAL
    if name in call.context:
        return LOCAL if _by_token(name, steps) else SAME
    if name in made:
        return EITHER
    return ABSENT if name in REPLAY else OWN if name in sharded(spec) else SAME


def _by_token(name, steps):
    """Whether a context array has an axis of tokens: what reads it says so."""
    return any(arg.shape[:1] == "T" for step in steps for arg, read in zip(lookup(step.op).inputs, step.reads.split(), strict=False) if read == name)


def shapes(spec, d_model: int, rank: int, ranks: int):
    """The shape of every parameter that a rank holds."""
    return {name: (cut(name, spec, ranks)[rank], *shape[1:]) if name in sharded(spec) else shape
            for name, shape in parameter_shapes(spec, d_model).items()}


def rank_program(spec, tokens, rank: int = 0, *, rows: int = 1, training: bool = False, context=(), ordered: bool = False, chunks: int = 1):
    """The steps of one rank, for a batch of which rank r has tokens[r] tokens in all its batch rows.

    `rows` are the batch rows of all ranks, `context` the names that the caller will give; the rest as in `forward`.
    """
    if not 0 <= rank < len(tokens) or min(tokens) < 0:
        raise ValueError(f"rank_program: rank={rank} of {len(tokens)} ranks with {tuple(tokens)} tokens")
    if chunks < 1:
        raise ValueError(f"rank_program: chunks={chunks} is below 1")
    if rows < 0 or (sum(tokens) % rows if rows else sum(tokens)):
        raise ValueError(f"rank_program: rows={rows} do not divide {sum(tokens)} tokens")
    noise = draw(spec, 1, 8, rng=0) if training else silent(spec, 1)
    given = ("x", *parameter_shapes(spec, 8), *(f"noise.{name}" for name in noise), *context)
    batch = Batch(rank, tuple(tokens), rows)
    return plan(spec, Call(batch, training, given, tuple(sorted(context)), ordered, chunks)).steps
