"""Experts on Numba: one file per op, as in the reference."""

from moespec_numba.experts import (
    _constant,
    _copy,
    _ffn,
    _gelu,
    _gelu_tanh,
    _glu,
    _grouped_matmul,
    _identity,
    _linear,
    _moe,
    _moe_block,
    _relu,
    _relu2,
    _silu,
    _singleton,
)

OPS = {f"experts.{name}": module.IMPL for name, module in {
    "grouped_matmul": _grouped_matmul,
    "linear": _linear,
    "identity": _identity,
    "relu": _relu,
    "relu2": _relu2,
    "silu": _silu,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "ffn": _ffn,
    "glu": _glu,
    "moe": _moe,
    "moe_block": _moe_block,
    "singleton": _singleton,
    "copy": _copy,
    "constant": _constant,
}.items()}
