"""Experts on CuPy: one file per op, as in the reference."""

from moespec_cupy.experts import (
    _silu,
)

OPS = {f"experts.{name}": module.IMPL for name, module in {
    "silu": _silu,
}.items()}
