"""Gates on CuPy: one file per op, as in the reference."""

from moespec_cupy.gates import (
    _bias_centred,
    _bias_proportional,
    _bias_sign,
    _expert_choice,
    _l2_normalize,
    _product_keys,
    _quantile_bias,
    _relu_route,
    _sinkhorn,
    _soft,
    _softmax,
    _sparsemixer,
    _top_p,
    _topk,
)

OPS = {f"gates.{name}": module.IMPL for name, module in {
    "bias_centred": _bias_centred,
    "bias_proportional": _bias_proportional,
    "bias_sign": _bias_sign,
    "expert_choice": _expert_choice,
    "l2_normalize": _l2_normalize,
    "product_keys": _product_keys,
    "quantile_bias": _quantile_bias,
    "relu_route": _relu_route,
    "sinkhorn": _sinkhorn,
    "soft": _soft,
    "softmax": _softmax,
    "sparsemixer": _sparsemixer,
    "top_p": _top_p,
    "topk": _topk,
}.items()}
