"""Dispatch on Numba: one file per op, as in the reference."""

from moespec_numba.dispatch import (
    _combine,
    _decode,
    _drop,
    _encode,
    _gather_choices,
    _one_hot,
    _permute,
    _plan,
    _reroute,
    _scatter_choices,
)

OPS = {f"dispatch.{name}": module.IMPL for name, module in {
    "combine": _combine,
    "decode": _decode,
    "drop": _drop,
    "encode": _encode,
    "gather_choices": _gather_choices,
    "one_hot": _one_hot,
    "permute": _permute,
    "plan": _plan,
    "reroute": _reroute,
    "scatter_choices": _scatter_choices,
}.items()}
