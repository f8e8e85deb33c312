"""Which parameters are cut, and how: every rank owns a contiguous block of the experts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

import numpy as np

from moespec.parallel._kinds import EXPERTS
from moespec.parallel._link import blocks
from moespec.program import lookup

PREFIXES = ("experts.", "pool.experts.")


@lru_cache(maxsize=256)
def sharded(spec) -> Mapping[str, int]:
    """The parameters that are cut along their first axis, each with its number of experts; all others are on every rank."""
    found: dict[str, int] = {}
    for step in spec.program(max(spec.experts.n, 1), context=_everything(spec)):
        names, op = step.reads.split(), lookup(step.op)
        if op.name in EXPERTS and names[1] == "whole":
            continue                                       # one matrix for all tokens, beside the experts
        if op.name in EXPERTS or op.name == "experts.singleton":
            own = [name for a, name in zip(op.inputs, names, strict=False) if a.shape[:1] == "E" and name.startswith(PREFIXES)]
            found |= {name: (spec.pool if name.startswith("pool.") else spec).experts.n for name in own}
    return MappingProxyType(found)


def _everything(spec):
    """Names that losses may read, so that the program can be written down without a batch."""
    return [a.name for loss in spec.losses for a in lookup(loss.op).inputs]


def cut(name: str, spec, ranks: int) -> tuple[int, ...]:
    """How many experts of a parameter every rank has."""
    return tuple(blocks(sharded(spec)[name], ranks).tolist())


def shard(spec, params, rank: int, ranks: int):
    """The parameters that `rank` of `ranks` holds: its block of the experts, and a reference to everything else.

    The blocks are those of `np.array_split`: the first E mod R ranks have one expert more, and with R > E some have none.
    """
    if not 0 <= rank < ranks:
        raise ValueError(f"shard: rank={rank} is outside 0 .. {ranks - 1}")
    found = {}
    for name, array in params.items():
        if name in sharded(spec):
            sizes = cut(name, spec, ranks)
            if len(array) != sum(sizes):
                raise ValueError(f"shard: {name} has shape {tuple(array.shape)}, wanted {sum(sizes)} experts first")
            start = sum(sizes[:rank])
            array = array[start:start + sizes[rank]]
        found[name] = array
    return found


def unshard(spec, parts):
    """The inverse of `shard`, on parameters or their gradients: `parts` are those of all ranks in their order."""
    if not parts:
        raise ValueError("unshard: no parts")
    for r, part in enumerate(parts):
        if set(part) != set(parts[0]):
            raise ValueError(f"unshard: ranks 0 and {r} have different names: {sorted(set(part) ^ set(parts[0]))}")
        for name in sharded(spec).keys() & part.keys():
            if len(part[name]) != cut(name, spec, len(parts))[r]:
                raise ValueError(f"unshard: {name} of rank {r} has shape {tuple(part[name].shape)}, wanted "
                                 f"{cut(name, spec, len(parts))[r]} experts first: one of {len(parts)} parts")
    return {name: np.concatenate([p[name] for p in parts]) if name in sharded(spec) else array for name, array in parts[0].items()}
