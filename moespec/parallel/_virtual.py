"""Virtual ranks: threads of one process that run the same code as processes under MPI do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from moespec.parallel._arrays import namespace
from moespec.parallel._protocol import Pending, Traffic


class Broken(RuntimeError):
    """Another rank failed, so that this one cannot go on."""


class _Hall:
    """Where the ranks leave their parts for each other."""

    def __init__(self, size, timeout):
        self.size, self.timeout = size, timeout
        self.changed = threading.Condition()
        self.posted: dict[int, dict[int, list]] = {}         # exchange -> rank -> its part for every rank
        self.taken: dict[int, int] = {}
        self.ended: set[int] = set()
        self.error: BaseException | None = None

    def post(self, number, rank, parts):
        with self.changed:
            self.posted.setdefault(number, {})[rank] = parts
            self.changed.notify_all()

    def take(self, number, rank):
        """What every rank left for `rank` in exchange `number`."""
        with self.changed:
            if not self.changed.wait_for(lambda: self.error or self._missing(number) <= self.ended, self.timeout):
                raise TimeoutError(f"virtual: rank {rank} waited {self.timeout} s in exchange {number} for ranks {sorted(self._missing(number))}")
            if self.error is not None:
                raise Broken(f"virtual: rank {rank} ends because another rank failed: {self.error!r}")
            if self._missing(number):
                raise Broken(f"virtual: rank {rank} waits in exchange {number} for ranks {sorted(self._missing(number))}, which have ended")
            parts = [self.posted[number][r][rank] for r in range(self.size)]
            self.taken[number] = self.taken.get(number, 0) + 1
            if self.taken[number] == self.size:
                del self.posted[number], self.taken[number]
            return parts

    def end(self, rank, error=None):
        with self.changed:
            self.ended.add(rank)
            self.error = self.error or error
            self.changed.notify_all()

    def _missing(self, number):
        return set(range(self.size)) - set(self.posted.get(number, ()))


class VirtualComm:
    """One of the ranks that `virtual` runs."""

    def __init__(self, hall: _Hall, rank: int):
        self.hall, self.rank, self.size = hall, rank, hall.size
        self.traffic, self.calls = Traffic(), 0

    def start(self, rows, send, receive):
        """See `Communicator.start`: rows are laid out for the other threads."""
        number, self.calls = self.calls, self.calls + 1
        ends = np.cumsum(send)
        self.hall.post(number, self.rank, [rows[stop - n:stop] for n, stop in zip(send.tolist(), ends.tolist(), strict=True)])
        return Pending(lambda: self._arrived(number, receive))

    def _arrived(self, number, receive):
        parts = self.hall.take(number, self.rank)
        for r, (part, n) in enumerate(zip(parts, receive.tolist(), strict=True)):
            if len(part) != n:
                raise ValueError(f"virtual: rank {r} sent {len(part)} rows to rank {self.rank}, which expected {n}")
        return namespace(parts[0]).concatenate(parts)


def virtual(ranks: int, work: Callable[[VirtualComm], Any], *, timeout: float = 60.0) -> list[Any]:
    """Run ``work(comm)`` on `ranks` virtual ranks and return what each returned.

    Parameters
    ----------
    ranks : int
    work : callable
        Gets a communicator; the same code runs under MPI.
    timeout : float
        Seconds that a rank waits for another one in an exchange.

    Raises
    ------
    Exception
        The first that a rank raised; a rank that waits for one that failed, ended or stalls ends too.
    """
    if ranks < 1:
        raise ValueError(f"virtual: ranks={ranks} is below 1")
    if not timeout > 0:
        raise ValueError(f"virtual: timeout={timeout} must be above 0")
    hall, found = _Hall(ranks, timeout), [None] * ranks

    def run(rank):
        try:
            found[rank] = work(VirtualComm(hall, rank))
        except BaseException as error:        # SystemExit too: a rank that leaves must not leave the others waiting
            hall.end(rank, error)
        else:
            hall.end(rank)

    threads = [threading.Thread(target=run, args=(rank,), name=f"rank {rank}", daemon=True) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    with hall.changed:
        hall.changed.wait_for(lambda: hall.error or len(hall.ended) == ranks)
    for thread in threads:
        thread.join(None if hall.error is None else 1.0)       # one that stalls is left behind
    if hall.error is not None:
        raise hall.error
    return found
