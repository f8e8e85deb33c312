"""What a communicator is: a rank, a size, one exchange of rows, and a place where bytes are counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np


@dataclass
class Traffic:
    """Bytes to and from other ranks, by the name of the exchange; what a rank hands to itself is free."""

    sent: Counter = field(default_factory=Counter)
    received: Counter = field(default_factory=Counter)

    def add(self, name: str, sent: int, received: int):
        """Count an exchange under its name."""
        self.sent[name] += sent
        self.received[name] += received

    def clear(self):
        """Count from 0 again."""
        self.sent.clear()
        self.received.clear()


class Pending(NamedTuple):
    """An exchange under way: `wait()` returns the rows that arrived."""

    wait: Callable[[], Any]


class Communicator(Protocol):
    """Everything else (all-gather, all-reduce, counts, checks) is made of `start`, in `_link`."""

    rank: int
    size: int
    traffic: Traffic

    def start(self, rows: Any, send: np.ndarray, receive: np.ndarray) -> Pending:
        """All-to-all of rows: the first send[0] rows go to rank 0, the next send[1] to rank 1 ...; receive[r] rows come from rank r.

        `rows` has shape [sum(send), ...], the counts are int64[size]; what arrives is in the order of the ranks, and an array of the same
        kind as `rows`: NumPy's, or CuPy's.  Every rank calls it, in the same order, with the same row shape and dtype, and leaves `rows`
        alone until it has waited.
        """
        ...
