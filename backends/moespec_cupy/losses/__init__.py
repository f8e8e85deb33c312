"""Losses on CuPy: one file per op, as in the reference."""

from moespec_cupy.losses import (
    _z_loss,
)

OPS = {f"losses.{name}": module.IMPL for name, module in {
    "z_loss": _z_loss,
}.items()}
