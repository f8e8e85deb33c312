"""Experts: from rows, sorted by expert, to their outputs.

grouped_matmul  every row times the matrix of its expert
linear          one affine map per expert
identity, relu, relu2, silu, gelu, gelu_tanh    the activations; ACTIVATIONS: the same by name, on wide arrays
ffn             one hidden layer per expert, with optional biases and dropout
glu             gated experts: SwiGLU, GEGLU, ReGLU, bilinear
moe             a whole routed layer: plan, permute, glu, combine (a composite)
moe_block       the same with its router: logits, routing, moe (a composite)
singleton       experts of one neuron, looked up by id
copy, constant  experts without a network: the token itself, a learned vector mixed with it
"""

from moespec.experts import (
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
from moespec.experts._activations import ACTIVATIONS
from moespec.experts._constant import constant, constant_backward
from moespec.experts._copy import copy, copy_backward
from moespec.experts._ffn import ffn, ffn_backward
from moespec.experts._gelu import gelu, gelu_backward
from moespec.experts._gelu_tanh import gelu_tanh, gelu_tanh_backward
from moespec.experts._glu import glu, glu_backward
from moespec.experts._grouped_matmul import grouped_matmul, grouped_matmul_backward
from moespec.experts._identity import identity, identity_backward
from moespec.experts._linear import linear, linear_backward
from moespec.experts._moe import moe, moe_backward, moe_steps
from moespec.experts._moe_block import moe_block, moe_block_backward, moe_block_steps
from moespec.experts._relu import relu, relu_backward
from moespec.experts._relu2 import relu2, relu2_backward
from moespec.experts._silu import silu, silu_backward
from moespec.experts._singleton import singleton, singleton_backward

OPS = {op.short: op for op in (_grouped_matmul.OP, _linear.OP, _identity.OP, _relu.OP, _relu2.OP, _silu.OP, _gelu.OP,
                               _gelu_tanh.OP, _ffn.OP, _glu.OP, _moe.OP, _moe_block.OP, _singleton.OP, _copy.OP, _constant.OP)}

__all__ = [
    "ACTIVATIONS", "OPS", "constant", "constant_backward", "copy", "copy_backward", "ffn", "ffn_backward", "gelu", "gelu_backward",
    "gelu_tanh", "gelu_tanh_backward", "glu", "glu_backward", "grouped_matmul", "grouped_matmul_backward", "identity",
    "identity_backward", "linear", "linear_backward", "moe", "moe_backward", "moe_block", "moe_block_backward", "moe_block_steps",
    "moe_steps", "relu", "relu2", "relu2_backward", "relu_backward", "silu", "silu_backward", "singleton", "singleton_backward",
]
