"""Which rows go where: from a plan of this rank's tokens to the ranks that own the experts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from moespec.parallel._arrays import namespace
from moespec.parallel._link import Link, blocks


class Chunk(NamedTuple):
    """The rows of some experts of every rank, exchanged together."""

    experts: slice                  # of this rank's experts
    offsets: np.ndarray             # of the rows that arrive, expert by expert
    order: np.ndarray               # from (source rank, expert, arrival), as they arrive, to (expert, source rank, arrival)
    spans: list[slice]              # this rank's rows for every rank
    send: np.ndarray                # R
    receive: np.ndarray             # R


def chunks_of(link: Link, offsets, chunks: int) -> list[Chunk]:
    """Exchange the counts of a plan, and cut the experts of every rank into `chunks` parts."""
    bounds = link.host(offsets).astype(np.int64)
    own = blocks(len(bounds) - 1, link.size)
    mine = int(own[link.rank])
    arriving = link.exchange("counts", np.diff(bounds), own, np.full(link.size, mine)).reshape(link.size, mine)
    first = np.cumsum(own) - own
    cuts = np.stack([np.concatenate([[0], np.cumsum(blocks(int(n), chunks))]) for n in own])      # R, chunks + 1
    return [_chunk(arriving, bounds, first + cuts[:, c], first + cuts[:, c + 1], slice(*cuts[link.rank, c:c + 2].tolist())) for c in range(chunks)]


def _chunk(arriving, bounds, start, stop, experts):
    spans = [slice(*b) for b in zip(bounds[start].tolist(), bounds[stop].tolist(), strict=True)]
    rows = arriving[:, experts]
    owner = np.repeat(np.tile(np.arange(rows.shape[1]), len(rows)), rows.ravel())
    offsets = np.concatenate([[0], np.cumsum(rows.sum(0))]).astype(np.int64)
    return Chunk(experts, offsets, np.argsort(owner, kind="stable"), spans, bounds[stop] - bounds[start], rows.sum(1))


class Way:
    """Rows to the experts and back, chunk by chunk: while one is computed, the next is under way."""

    def __init__(self, link: Link, chunks: list[Chunk], rows: int):
        self.link, self.chunks, self.rows = link, chunks, rows

    def through(self, there: str, back: str, arrays, compute):
        """``compute(n, *arrays of chunk n)`` gives rows that travel back; returns them in the order in which rows left, dead rows 0."""
        under_way, returning = self._leave(there, 0, arrays), []
        for n, chunk in enumerate(self.chunks):
            arrived = [self._sorted(pending.wait(), chunk) for pending in under_way]
            under_way = self._leave(there, n + 1, arrays)
            out = compute(n, *arrived)
            returning.append(self.link.start(back, self._unsorted(out, chunk), chunk.receive, chunk.send))
        return self._joined([pending.wait() for pending in returning])

    def _leave(self, name, n, arrays):
        if n == len(self.chunks):
            return []
        spans, send, receive = self.chunks[n].spans, self.chunks[n].send, self.chunks[n].receive
        return [self.link.start(f"{name}{extra}", namespace(a).concatenate([a[s] for s in spans]), send, receive)
                for a, extra in zip(arrays, ("", " dropout"), strict=False)]

    def _sorted(self, rows, chunk):
        return rows[namespace(rows).asarray(chunk.order)]

    def _unsorted(self, rows, chunk):
        return rows[namespace(rows).asarray(np.argsort(chunk.order, kind="stable"))]

    def _joined(self, parts):
        xp, last = namespace(parts[0]), parts[-1]
        ends = [np.cumsum(chunk.send) for chunk in self.chunks]
        pieces = [part[end[r] - chunk.send[r]:end[r]] for r in range(self.link.size)
                  for part, chunk, end in zip(parts, self.chunks, ends, strict=True)]
        dead = self.rows - sum(map(len, pieces))
        return xp.concatenate([*pieces, xp.zeros((dead, *last.shape[1:]), last.dtype)])
