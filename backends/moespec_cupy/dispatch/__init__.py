"""Dispatch on CuPy: one file per op, as in the reference."""

from moespec_cupy.dispatch import (
    _combine,
    _plan,
)

OPS = {f"dispatch.{name}": module.IMPL for name, module in {
    "combine": _combine,
    "plan": _plan,
}.items()}
