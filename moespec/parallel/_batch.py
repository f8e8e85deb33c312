"""The batch of all ranks, which they tell each other before anything else."""

from __future__ import annotations

from typing import NamedTuple
from zlib import crc32

import numpy as np

from moespec.layer._inputs import follows, noise_of

# What must be the same on every rank, in the order of the message; the number of batch rows, the last, may differ.
SAME = ("the layer", "training, keep, ordered, chunks or the names of the context", "the dtype of x", "how many axes x has", "the width of x",
        "the tokens of a batch row", "the parameters that all have")


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


def agree(link, spec, x, dtype, settings, replicated) -> Batch:
    """The batch, if all ranks see the same layer; else a ValueError on every rank, which names two that differ.

    `replicated` are the parameters that every rank has: their checksums are compared if the link checks, and they are in host memory.
    """
    if x.ndim < 2:
        raise ValueError(f"forward: x has shape {tuple(x.shape)}, wanted at least two axes: tokens, width")
    per_row = int(np.prod(x.shape[1:-1])) if x.ndim > 2 else 0
    bits = 0
    for array in replicated if link.check and link.backend.host else ():
        bits = crc32(array.tobytes(), bits)
    told = tell(link, "batch", [code(spec), code(settings), code(dtype), x.ndim, x.shape[-1], per_row, bits, int(np.prod(x.shape[:-1])), x.shape[0]])
    for at, what in enumerate(SAME):
        if len(other := np.flatnonzero(told[:, at] != told[0, at])):
            raise ValueError(f"forward: ranks 0 and {other[0]} differ in {what}; rank {link.rank} has x of shape {tuple(x.shape)}, {dtype}, "
                             f"settings {settings}")
    return Batch(link.rank, tuple(told[:, -2].tolist()), int(told[:, -1].sum()) if x.ndim > 2 else 1)


def agree_backward(link, names, dlosses):
    """Refuse, on every rank alike, cotangents that only some of the ranks have: the others would wait for them."""
    told = tell(link, "cotangents", [code(sorted(names)), code(sorted((dlosses or {}).items()))]) if link.check else np.zeros((1, 2))
    for at, what in enumerate(("the cotangents that they are given", "dlosses")):
        if len(other := np.flatnonzero(told[:, at] != told[0, at])):
            raise ValueError(f"backward: ranks 0 and {other[0]} differ in {what}; rank {link.rank} has {', '.join(sorted(names))}, dlosses={dlosses}")


def tell(link, name, numbers):
    """[R, n]: the numbers of every rank."""
    return link.all_gather(name, np.array(numbers, np.int64)[None], [1] * link.size)


def code(thing) -> int:
    """A checksum of what a thing is written as."""
    return crc32(repr(thing).encode())


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
