"""Experts on the device."""

from moespec_numba_cuda.experts import (
    _constant,
    _copy,
    _ffn,
    _gelu,
    _gelu_tanh,
    _glu,
    _grouped_matmul,
    _identity,
    _linear,
    _relu,
    _relu2,
    _silu,
    _singleton,
)

OPS = {
    "experts.constant": _constant.IMPL,
    "experts.copy": _copy.IMPL,
    "experts.ffn": _ffn.IMPL,
    "experts.gelu": _gelu.IMPL,
    "experts.gelu_tanh": _gelu_tanh.IMPL,
    "experts.glu": _glu.IMPL,
    "experts.grouped_matmul": _grouped_matmul.IMPL,
    "experts.identity": _identity.IMPL,
    "experts.linear": _linear.IMPL,
    "experts.relu": _relu.IMPL,
    "experts.relu2": _relu2.IMPL,
    "experts.silu": _silu.IMPL,
    "experts.singleton": _singleton.IMPL,
}
