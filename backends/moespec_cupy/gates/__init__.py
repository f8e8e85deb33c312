"""Gates on CuPy: one file per op, as in the reference."""

from moespec_cupy.gates import (
    _gather,
    _renormalize,
    _route,
    _selected_sigmoid,
    _selected_softmax,
    _selected_sqrt_softplus,
    _sigmoid,
    _softmax,
    _softmax_topk,
    _sqrt_softplus,
    _topk,
    _topk_softmax,
)

OPS = {f"gates.{name}": module.IMPL for name, module in {
    "softmax": _softmax,
    "topk": _topk,
    "gather": _gather,
    "selected_softmax": _selected_softmax,
    "renormalize": _renormalize,
    "route": _route,
    "topk_softmax": _topk_softmax,
    "softmax_topk": _softmax_topk,
    "sigmoid": _sigmoid,
    "sqrt_softplus": _sqrt_softplus,
    "selected_sigmoid": _selected_sigmoid,
    "selected_sqrt_softplus": _selected_sqrt_softplus,
}.items()}
