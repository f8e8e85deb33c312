"""The goals, and whether what was measured reaches them."""

from __future__ import annotations

from typing import NamedTuple

LARGE = ([8192, 4096, 1024, 64, 4], [8192, 4096, 14336, 8, 2])
OF_THE_FLOOR, OF_CUBLAS = 0.7, 0.5


class Goal(NamedTuple):
    """`reached` is None if it could not be measured."""

    text: str
    reached: bool | None
    found: str


def goals(rows, best="tile") -> list[Goal]:
    """As fast as torch everywhere, and near the matrix products alone where those are large."""
    found = [_compared(f"at least torch's speed: {_where(row)}", row, (best, "torch"), 1, "times torch's speed") for row in rows]
    return found + [_compared(f"at least {OF_THE_FLOOR} of cuBLAS's dense products: {_where(row)}", row, (best, "floor"), OF_THE_FLOOR, "of them")
                    for row in rows if row["shape"] in map(list, LARGE) and row["dtype"] == "bfloat16"]


def goals_of_products(rows) -> list[Goal]:
    """What can be hoped for of products that Numba compiles, without tensor cores: half of cuBLAS in float32."""
    return [_compared(f"numba-cuda: at least {OF_CUBLAS} of cuBLAS's dense product: {row['product']}, {_where(row)}", row, ("numba-cuda", "cublas"),
                      OF_CUBLAS, "of it") for row in rows]


def _compared(text, row, names, least, told):
    ours, rival = (row["candidates"].get(name, {}) for name in names)
    if "min_ms" not in ours or "min_ms" not in rival:
        return Goal(text, None, _why(names[0], ours) or _why(names[1], rival))
    ratio = rival["min_ms"] / ours["min_ms"]
    return Goal(text, ratio >= least, f"{ratio:.2f} {told}")


def _where(row):
    return f"T, D, F, E, K = {', '.join(map(str, row['shape']))}, {row['dtype']}"


def _why(name, candidate):
    return "" if "min_ms" in candidate else f"{name}: {candidate.get('absent') or candidate.get('failed') or 'not measured'}"
