"""Bytes of one number on its way between ranks."""

from __future__ import annotations

BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2, "float8": 1}


def width(name: str, dtype: str) -> int:
    """Bytes of a wire dtype."""
    if dtype not in BYTES:
        raise ValueError(f"{name}: wire dtype {dtype!r} is not one of {', '.join(BYTES)}")
    return BYTES[dtype]


def both_ways(name: str, wire) -> tuple[int, int]:
    """Bytes per number to the experts and back: from one dtype, or one for each direction."""
    pair = tuple(wire) if isinstance(wire, tuple | list) else (wire, wire)
    if len(pair) != 2:
        raise ValueError(f"{name}: wire={wire!r} is not one dtype, or two (dispatch, combine)")
    return width(name, pair[0]), width(name, pair[1])
