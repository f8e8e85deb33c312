"""The goals, and whether what was measured reaches them."""

from __future__ import annotations

from typing import NamedTuple

LARGE = ([8192, 4096, 1024, 64, 4], [8192, 4096, 14336, 8, 2])
OF_THE_FLOOR = 0.7


class Goal(NamedTuple):
    """`reached` is None if it could not be measured."""

    text: str
    reached: bool | None
    found: str


def goals(rows, best="tile") -> list[Goal]:
    """As fast as torch everywhere, and near the matrix products alone where those are large."""
    found = [_as_fast_as_torch(row, best) for row in rows]
    return found + [_near_the_floor(row, best) for row in rows if row["shape"] in map(list, LARGE) and row["dtype"] == "bfloat16"]


def _as_fast_as_torch(row, best):
    text = f"at least torch's speed: {_where(row)}"
    ours, torch = row["candidates"].get(best, {}), row["candidates"].get("torch", {})
    if "min_ms" not in ours or "min_ms" not in torch:
        return Goal(text, None, _why(best, ours) or _why("torch", torch))
    ratio = torch["min_ms"] / ours["min_ms"]
    return Goal(text, ratio >= 1, f"{ratio:.2f} times torch's speed")


def _near_the_floor(row, best):
    text = f"at least {OF_THE_FLOOR} of cuBLAS's dense products: {_where(row)}"
    ours, floor = row["candidates"].get(best, {}), row["candidates"].get("floor", {})
    if "min_ms" not in ours or "min_ms" not in floor:
        return Goal(text, None, _why(best, ours) or _why("floor", floor))
    ratio = floor["min_ms"] / ours["min_ms"]
    return Goal(text, ratio >= OF_THE_FLOOR, f"{ratio:.2f} of them")


def _where(row):
    return f"T, D, F, E, K = {', '.join(map(str, row['shape']))}, {row['dtype']}"


def _why(name, candidate):
    return "" if "min_ms" in candidate else f"{name}: {candidate.get('absent') or candidate.get('failed') or 'not measured'}"
