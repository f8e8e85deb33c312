"""The one place through which everything travels: named exchanges, checked before data moves, and counted."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from moespec.backend import NUMPY
from moespec.numerics import acc
from moespec.parallel._arrays import namespace
from moespec.parallel._protocol import Pending


def blocks(n: int, ranks: int) -> np.ndarray:
    """int64[R]: sizes of `n` things cut into contiguous blocks, the first n mod R of them one larger (`np.array_split`)."""
    return np.array([n // ranks + (r < n % ranks) for r in range(ranks)], np.int64)


def width(array) -> int:
    """Bytes of one row."""
    return int(np.prod(array.shape[1:], dtype=np.int64)) * array.dtype.itemsize


class Link:
    """A communicator and the backend whose arrays travel.

    With `check` the ranks tell each other, before every exchange, its name, dtype and row shape, and all counts: what does not fit is a
    ValueError on every rank.
    """

    def __init__(self, comm, backend=NUMPY, *, check: bool = True):
        self.comm, self.backend, self.check = comm, backend, check
        self.rank, self.size = comm.rank, comm.size

    def host(self, array) -> np.ndarray:
        """The array as one of NumPy, wherever it is."""
        return self.backend.to_numpy(array)

    def start(self, name: str, rows: Any, send, receive) -> Pending:
        """All-to-all of rows (see `Communicator.start`) under a name."""
        send, receive = np.asarray(send, np.int64), np.asarray(receive, np.int64)
        if not send.shape == receive.shape == (self.size,) or min(send.min(), receive.min()) < 0:
            raise ValueError(f"{name}: rank {self.rank} sends {send.tolist()} and expects {receive.tolist()} rows, wanted {self.size} counts of each")
        if int(send.sum()) != len(rows):
            raise ValueError(f"{name}: rank {self.rank} sends {send.tolist()} of {len(rows)} rows")
        if self.check:
            self._agree(name, rows, send, receive)
        return self._counted(name, rows, send, receive)

    def exchange(self, name, rows, send, receive):
        """What `start` begins, waited for: the rows that arrived."""
        return self.start(name, rows, send, receive).wait()

    def all_gather(self, name, rows, sizes):
        """The rows of all ranks in their order; rank r has sizes[r]."""
        xp, sizes = namespace(rows), np.asarray(sizes, np.int64)
        return self.exchange(name, xp.concatenate([rows] * self.size), np.full(self.size, len(rows)), sizes)

    def all_reduce(self, name, array):
        """The sum over all ranks, added in rank order in the accumulation dtype, rounded once, on all ranks.

        Every rank adds one part up (a reduce-scatter), then the parts are gathered.
        """
        flat, sizes = array.reshape(-1), blocks(array.size, self.size)
        own = int(sizes[self.rank])
        parts = self.exchange(name, flat, sizes, np.full(self.size, own)).reshape(self.size, own)
        total = parts[0].astype(acc(array.dtype))
        for part in parts[1:]:
            total = total + part                                  # in the wider dtype
        return self.all_gather(name, total.astype(array.dtype), sizes).reshape(array.shape)

    def _counted(self, name, rows, send, receive):
        pending, b, own = self.comm.start(rows, send, receive), width(rows), self.rank
        self.comm.traffic.add(name, b * int(send.sum() - send[own]), b * int(receive.sum() - receive[own]))
        return pending

    def _agree(self, name, rows, send, receive):
        """Refuse, on all ranks alike, an exchange that the ranks see differently."""
        kind = zlib.crc32(f"{name} {rows.dtype} {tuple(rows.shape[1:])}".encode())
        mine = np.array([kind, zlib.crc32(name.encode()), width(rows), *send, *receive], np.int64)
        told = self._counted("check", np.tile(mine, self.size), *[np.full(self.size, mine.size)] * 2).wait().reshape(self.size, -1)
        for r in range(self.size):
            if told[r, 0] != told[0, 0]:
                what = "names" if told[r, 1] != told[0, 1] else f"rows ({told[0, 2]} and {told[r, 2]} bytes each)"
                raise ValueError(f"{name}: ranks 0 and {r} exchange different {what}; rank {self.rank} has {rows.dtype} rows "
                                 f"of shape {tuple(rows.shape[1:])}")
        sends, receives = told[:, 3:3 + self.size], told[:, 3 + self.size:]
        if (wrong := np.argwhere(sends != receives.T)).size:
            r, s = wrong[0].tolist()
            raise ValueError(f"{name}: rank {r} sends {sends[r, s]} rows to rank {s}, which expects {receives[s, r]}")
