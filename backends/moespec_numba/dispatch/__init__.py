"""Dispatch on Numba: one file per op, as in the reference."""

from moespec_numba.dispatch import _combine, _gather_choices, _permute, _plan, _scatter_choices

OPS = {f"dispatch.{name}": module.IMPL for name, module in {
    "combine": _combine,
    "gather_choices": _gather_choices,
    "permute": _permute,
    "plan": _plan,
    "scatter_choices": _scatter_choices,
}.items()}
