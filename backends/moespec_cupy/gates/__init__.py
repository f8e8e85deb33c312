"""Gates on CuPy: one file per op, as in the reference."""

from moespec_cupy.gates import (
    _bias_centred,
    _bias_proportional,
    _bias_sign,
    _l2_normalize,
    _product_keys,
    _relu_route,
    _sinkhorn,
    _softmax,
    _top_p,
    _topk,
)

OPS = {f"gates.{name}": module.IMPL for name, module in {
    "bias_centred": _bias_centred,
    "bias_proportional": _bias_proportional,
    "bias_sign": _bias_sign,
    "l2_normalize": _l2_normalize,
    "product_keys": _product_keys,
    "relu_route": _relu_route,
    "sinkhorn": _sinkhorn,
    "softmax": _softmax,
    "top_p": _top_p,
    "topk": _topk,
}.items()}
