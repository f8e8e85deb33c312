"""How many rows the experts get, and how many experts get any: what bytes and operations depend on beyond shapes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import bdtrc

from moespec.cost._require import loads_of
from moespec.layer import ExpertChoice, Soft

Number = int | float
LIMITS = ("dispatch.drop", "dispatch.reroute")          # steps that keep an expert's rows under its capacity


class Load(NamedTuple):
    """Rows and experts of one rank."""

    rows: Number            # live rows
    hit: Number             # experts with at least one


def given(spec, routing, tokens: int) -> Load:
    """From expert ids [T, K] (-1 is none), or from rows per expert [E]."""
    if spec.pool is not None or isinstance(spec.router, Soft):
        raise ValueError(f"layer: a routing says what one set of experts gets; this layer has {'two' if spec.pool else 'slots, not choices'}")
    shape = np.shape(routing)
    if len(shape) == 2 and shape[0] != tokens:
        raise ValueError(f"layer: routing has shape {shape}, but tokens={tokens}")
    rows = loads_of("layer", routing, spec.experts.n, spec.experts.classes)
    if rows.sum() > tokens * spec.columns:
        raise ValueError(f"layer: routing has {rows.sum()} rows, but tokens={tokens} choose {spec.columns} each (shape {shape})")
    return Load(int(rows.sum()), int((rows > 0).sum()))


def expected(spec, steps, tokens: int, ranks: int = 1) -> dict[str, Load]:
    """By prefix of the experts' names ("", "pool."): the expectation when every token chooses its experts independently and at random.

    Routers that choose a number of experts that depends on the data (ReLU, top-p) are taken to choose all they may.  Where two pools
    of experts serve two kinds of token, half of the tokens are of each kind.
    """
    sides = {"": (spec.router, spec.experts)} | ({"pool.": (spec.pool.router, spec.pool.experts)} if spec.pool else {})
    return {prefix: _one(router, experts, prefix, steps, tokens / len(sides) if len(sides) > 1 else tokens, ranks)
            for prefix, (router, experts) in sides.items()}


def capacity(steps) -> int | None:
    """The rows that an expert takes at most, in a program; None without a limit."""
    limit = _limit(steps)
    return None if limit is None else limit.attrs["capacity"]


def _limit(steps):
    return next((s for s in steps if s.op in LIMITS), None)


def _one(router, experts, prefix, steps, tokens, ranks):
    n, own = experts.n, experts.n / ranks if experts.n % ranks else experts.n // ranks
    if isinstance(router, Soft):
        return Load(n * router.slots, own)
    k, select = getattr(router, "k", 1), getattr(router, "select", "")
    if isinstance(router, ExpertChoice):
        rows = next(s.attrs["rows"] for s in steps if s.op == "dispatch.plan" and s.writes.startswith(f"{prefix}token "))
        return Load(rows, own if rows else 0)
    if select in ("batchwise", "assign"):
        rows = n * int(k * tokens // n) if select == "batchwise" else tokens
        return Load(rows, min(own, rows))
    if select in ("all", "relu", "top_p"):
        k = n if select != "top_p" else k
        return Load(tokens * k, own if tokens else 0)
    chance = k / experts.classes
    rows = tokens * k * n / experts.classes if experts.classes > n else tokens * k
    hit = own * (1 - (1 - chance) ** (tokens * ranks))
    limit = _limit(steps)
    if limit is None or prefix:
        return Load(rows, hit)
    kept = _kept(limit, n, tokens, chance, rows)
    return Load(kept, hit if kept else 0)


def _kept(limit, n, tokens, chance, rows):
    """Rows that stay under a capacity: E[min(X, C)] per expert, X binomial; all that fit where the others are sent elsewhere."""
    size = min(limit.attrs["capacity"], tokens)
    if limit.op == "dispatch.reroute":
        return min(rows, n * size)
    return n * float(np.sum(bdtrc(np.arange(size), tokens, chance)))
