"""How the backend works, where there is a choice."""

from __future__ import annotations

import os

GEMM = ("tile", "loop", "nvmath")
_gemm = "tile"


def gemm() -> str:
    """How the products of experts are computed: "tile" by one kernel that finds the groups on the device, "loop" by cuBLAS, expert by expert,
    "nvmath" by cuBLAS's grouped product, which nvmath-python binds.

    The latter two wait for the device once a forward, to learn the sizes; products with a bias are tiles in any way, as cuBLAS would round
    before the bias is added.
    """
    return _gemm


def choose_gemm(way):
    """Choose for this process."""
    global _gemm
    if way not in GEMM:
        raise ValueError(f"gemm={way!r} is not one of {', '.join(GEMM)}")
    _gemm = way


choose_gemm(os.environ.get("MOESPEC_CUPY_GEMM", "tile"))
