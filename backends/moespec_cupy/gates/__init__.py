"""Gates on CuPy: one file per op, as in the reference."""

from moespec_cupy.gates import (
    _softmax,
    _topk,
)

OPS = {f"gates.{name}": module.IMPL for name, module in {
    "softmax": _softmax,
    "topk": _topk,
}.items()}
