"""How evenly a routing loads the experts, and what that wastes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from moespec.cost._require import count, loads_of


class Statistics(NamedTuple):
    """The load of the experts.  Without any row every ratio is 0."""

    rows: int                   # assignments that are not -1
    experts: int
    hit: int                    # experts with at least one row
    max: int
    max_over_mean: float
    max_violation: float        # MaxVio = max / mean - 1: how much longer the slowest expert takes than an even one
    cv: float                   # standard deviation (population) over mean
    entropy: float              # of the shares of the rows, in nats; log E when even
    dropped: float              # share of the rows beyond the capacity
    capacity_waste: float       # share of the E C places of the buffers that stays empty; 0 without a capacity
    block_waste: float          # rows that padding every expert to a multiple of the block adds, per row


def statistics(routing, *, experts: int | None = None, capacity: int | None = None, block: int = 128) -> Statistics:
    """Load statistics of a routing.

    Parameters
    ----------
    routing : array of int
        Expert ids [T, K], -1 is none (then give `experts`); or rows per expert [E].
    experts : int, optional
        E, for ids.
    capacity : int, optional
        C, the rows that an expert takes at most.  How many are dropped does not depend on the order of the drop.
    block : int
        Rows to whose multiple a kernel pads every expert.

    Raises
    ------
    ValueError
        Ids without `experts` or out of range; negative counts.
    """
    loads, block = _loads(routing, experts), count("statistics", "block", block, least=1)
    capacity = None if capacity is None else count("statistics", "capacity", capacity)
    n, rows = len(loads), int(loads.sum())
    if not rows:
        return Statistics(0, n, 0, 0, *(0.0,) * 5, float(bool(capacity)), 0.0)
    mean, most, share = rows / n, int(loads.max()), loads[loads > 0] / rows
    dropped, waste = _over(loads, rows, capacity)
    padded = int((-(-loads // block) * block).sum())
    return Statistics(rows, n, int((loads > 0).sum()), most, most / mean, most / mean - 1, float(loads.std() / mean),
                      abs(float(-(share * np.log(share)).sum())), dropped, waste, padded / rows - 1)


def _over(loads, rows, capacity):
    """The share of the rows that is dropped, and of the places that stay empty."""
    if capacity is None:
        return 0.0, 0.0
    kept = int(np.minimum(loads, capacity).sum())
    return 1 - kept / rows, 1 - kept / (len(loads) * capacity) if capacity else 0.0


def _loads(routing, experts):
    shape = np.shape(routing)
    if experts is None and len(shape) == 2:
        raise ValueError(f"statistics: ids need experts= (routing has shape {shape})")
    n = count("statistics", "experts", experts if experts is not None else max(len(shape) and shape[0], 1), least=1)
    return loads_of("statistics", routing, n)
