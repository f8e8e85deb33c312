"""Bytes that cross the network, per rank: closed formulas, exact integers.

Only what leaves a rank for another one, or arrives from another one, counts; what a rank hands to itself is free.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moespec import parallel
from moespec.cost._require import count, counts_of


@dataclass(frozen=True)
class Traffic:
    """Bytes of one exchange: what every rank sends to the others, and what it receives from them."""

    sent: tuple[int, ...]
    received: tuple[int, ...]

    def __add__(self, other: Traffic) -> Traffic:
        if len(self.sent) != len(other.sent):
            raise ValueError(f"Traffic: {len(self.sent)} ranks and {len(other.sent)} ranks cannot be added")
        return Traffic(tuple(map(sum, zip(self.sent, other.sent, strict=True))), tuple(map(sum, zip(self.received, other.received, strict=True))))

    @property
    def total(self) -> int:
        """Bytes sent by all ranks, which are the bytes received by all."""
        return sum(self.sent)


def blocks(n: int, ranks: int) -> tuple[int, ...]:
    """Sizes of `n` things cut into contiguous blocks, one a rank: the first n mod R blocks have one more (`np.array_split`)."""
    n, ranks = count("blocks", "n", n), count("blocks", "ranks", ranks, least=1)
    return tuple(parallel.blocks(n, ranks).tolist())


def all_to_all(counts, row_bytes: int) -> Traffic:
    r"""Every rank sends rows to every other.

    .. math:: \mathrm{sent}_r = b \sum_{s \ne r} c_{rs}, \qquad \mathrm{received}_s = b \sum_{r \ne s} c_{rs}

    Parameters
    ----------
    counts : (R, R) integer
        Rows from rank r (row) to rank s (column).
    row_bytes : int
        b, bytes of one row.
    """
    rows = counts_of("all_to_all", "counts", counts, ndim=2)
    if rows.shape[0] != rows.shape[1]:
        raise ValueError(f"all_to_all: counts has shape {rows.shape}, wanted (R, R)")
    b, own = count("all_to_all", "row_bytes", row_bytes), rows.diagonal().tolist()
    sent, received = rows.sum(1).tolist(), rows.sum(0).tolist()
    return Traffic(tuple(b * (n - k) for n, k in zip(sent, own, strict=True)), tuple(b * (n - k) for n, k in zip(received, own, strict=True)))


def count_exchange(experts_per_rank, itemsize: int = 8) -> Traffic:
    """Before rows travel: every rank tells rank s how many rows come for each of its E_s experts, as int64; rank s ends with [R, E_s]."""
    own = [count("count_exchange", "experts_per_rank", e) for e in experts_per_rank]
    return reduce_scatter_blocks([e * count("count_exchange", "itemsize", itemsize) for e in own])


def all_gather(block_bytes) -> Traffic:
    """Every rank sends its block to all others: rank r sends (R - 1) b_r and receives the sum of the other blocks."""
    own = [count("all_gather", "block_bytes", b) for b in block_bytes]
    return Traffic(tuple((len(own) - 1) * b for b in own), tuple(sum(own) - b for b in own))


def reduce_scatter_blocks(block_bytes) -> Traffic:
    """Every rank sends block s to rank s: the mirror image of `all_gather`."""
    mirrored = all_gather(block_bytes)
    return Traffic(mirrored.received, mirrored.sent)


def reduce_scatter(elements: int, itemsize: int, ranks: int) -> Traffic:
    """An array of `elements` numbers on every rank, cut into `blocks`: rank s receives part s of all others and adds."""
    return reduce_scatter_blocks(_parts("reduce_scatter", elements, itemsize, ranks))


def all_reduce(elements: int, itemsize: int, ranks: int) -> Traffic:
    r"""The sum of an array over all ranks, on all ranks: a reduce-scatter, then an all-gather of the sums.

    With n_r the size of part r, rank r sends (and receives) :math:`b \, (n + (R - 2) \, n_r)` bytes: 2 b n (1 - 1/R) where R divides n.
    """
    parts = _parts("all_reduce", elements, itemsize, ranks)
    return reduce_scatter_blocks(parts) + all_gather(parts)


def _parts(name, elements, itemsize, ranks):
    size = count(name, "itemsize", itemsize, least=1)
    return [n * size for n in blocks(count(name, "elements", elements), count(name, "ranks", ranks, least=1))]


def rows_between(counts, experts_per_rank) -> np.ndarray:
    """Rows from rank to rank [R, R], from the rows that rank r has for expert e (`counts` [R, E]), experts in contiguous blocks."""
    rows = counts_of("rows_between", "counts", counts, ndim=2)
    own = [count("rows_between", "experts_per_rank", e) for e in experts_per_rank]
    if sum(own) != rows.shape[1] or len(own) != rows.shape[0]:
        raise ValueError(f"rows_between: {len(own)} ranks with {sum(own)} experts, but counts has shape {rows.shape}")
    ends = np.cumsum([0, *own])
    summed = np.concatenate([np.zeros((len(rows), 1), np.int64), np.cumsum(rows, axis=1)], axis=1)
    return summed[:, ends[1:]] - summed[:, ends[:-1]]


@dataclass(frozen=True)
class Exchange:
    """The four exchanges of rows in one expert-parallel layer, and the counts before the first."""

    counts: Traffic
    dispatch: Traffic
    combine: Traffic
    combine_gradient: Traffic
    dispatch_gradient: Traffic

    @property
    def forward(self) -> Traffic:
        """Counts, rows to the experts, rows back."""
        return self.counts + self.dispatch + self.combine

    @property
    def backward(self) -> Traffic:
        """Gradients to the experts, and back."""
        return self.combine_gradient + self.dispatch_gradient


def exchange(counts, dispatch_bytes: int, combine_bytes: int | None = None, *, experts_per_rank=None, gradient_bytes=None) -> Exchange:
    """What an expert-parallel layer moves, from the rows that rank r has for expert e.

    Parameters
    ----------
    counts : (R, E) integer
        Rows per rank and expert, after drops.
    dispatch_bytes, combine_bytes : int
        One row on its way to the expert and back: D times the itemsize on the wire; `combine_bytes` is `dispatch_bytes` by default.
    experts_per_rank : sequence of int, optional
        By default `blocks(E, R)`.
    gradient_bytes : (int, int), optional
        One row of the gradient of the combine (to the expert) and of the dispatch (back); by default those of the rows themselves,
        (combine_bytes, dispatch_bytes).
    """
    rows = counts_of("exchange", "counts", counts, ndim=2)
    own = blocks(rows.shape[1], rows.shape[0]) if experts_per_rank is None else tuple(experts_per_rank)
    back = dispatch_bytes if combine_bytes is None else combine_bytes
    gradients = (back, dispatch_bytes) if gradient_bytes is None else tuple(gradient_bytes)
    if len(gradients) != 2:
        raise ValueError(f"exchange: gradient_bytes={gradients} is not two sizes (of the combine, of the dispatch)")
    out = rows_between(rows, own)
    return Exchange(count_exchange(own), all_to_all(out, dispatch_bytes), all_to_all(out.T, back),
                    all_to_all(out, gradients[0]), all_to_all(out.T, gradients[1]))
