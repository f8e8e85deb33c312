"""Dispatch on Numba: one file per op, as in the reference."""

from moespec_numba.dispatch import _plan

OPS = {f"dispatch.{name}": module.IMPL for name, module in {
    "plan": _plan,
}.items()}
