"""The batch of all ranks, which they tell each other before anything else."""

from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np

from moespec.layer._inputs import follows, noise_of

# What must be the same on every rank, in the order of the message; the number of batch rows, the last, may differ.
SAME = ("the layer", "training, keep, ordered, chunks or the names of the context", "the dtype of x", "how many axes x has", "the width of x",
        "the tokens of a batch row")
MESSAGE = len(SAME) + 2


class Batch(NamedTuple):
    """How a batch is spread over the ranks."""

    rank: int
    tokens: tuple[int, ...]         # of every rank
    rows: int                       # batch rows of all ranks

    @property
    def own(self):
        """This rank's tokens among all."""
        start = sum(self.tokens[:self.rank])
        return slice(start, start + self.tokens[self.rank])


def agree(link, spec, x, dtype, settings) -> Batch:
    """The batch, if all ranks see the same layer; else a ValueError on every rank, which names two that differ."""
    if x.ndim < 2:
        raise ValueError(f"forward: x has shape {tuple(x.shape)}, wanted at least two axes: tokens, width")
    per_row = int(np.prod(x.shape[1:-1])) if x.ndim > 2 else 0
    mine = np.array([_code(spec), _code(settings), _code(dtype), x.ndim, x.shape[-1], per_row, int(np.prod(x.shape[:-1])), x.shape[0]], np.int64)
    told = link.all_gather("batch", mine[None], [1] * link.size)
    for at, what in enumerate(SAME):
        if len(other := np.flatnonzero(told[:, at] != told[0, at])):
            raise ValueError(f"forward: ranks 0 and {other[0]} differ in {what}; rank {link.rank} has x of shape {tuple(x.shape)}, {dtype}, "
                             f"settings {settings}")
    return Batch(link.rank, tuple(told[:, -2].tolist()), int(told[:, -1].sum()) if x.ndim > 2 else 1)


def _code(thing):
    return zlib.crc32(repr(thing).encode())


def noise_of_part(spec, x, dtype, batch, noise, rng, training):
    """This rank's noise: as given, or its part of what is drawn for the whole batch."""
    if training and noise is not None:
        return noise_of(spec, batch.tokens[batch.rank], x.shape[-1], dtype, noise, rng, training)
    drawn = noise_of(spec, sum(batch.tokens), x.shape[-1], dtype, None, rng, training)
    return {name: array[batch.own] for name, array in drawn.items()}


def follows_of_part(spec, dtype, batch):
    """What follows from shapes, for this rank's tokens and, as name@all, for those of all ranks."""
    made = follows(spec, sum(batch.tokens), batch.rows, dtype)
    own = follows(spec, batch.tokens[batch.rank], 1, dtype)
    own["group"] = lambda: made["group"]()[batch.own]
    return own | {f"{name}@all": make for name, make in made.items()}
