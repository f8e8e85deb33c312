"""Dispatch: from a routing to the rows of the experts, and back.

capacity         how many tokens an expert takes, by named formulas (a plain function)
drop             keep the first C assignments of every expert, in five orders
reroute          what overflows asks the next-best expert
plan             a routing transposed: token, row, offsets
permute          tokens to rows
combine          rows to tokens, weighted
scatter_choices  what is indexed by (token, choice) to rows
gather_choices   rows by (token, choice)
mix, unmix       Soft MoE: averages of tokens to rows, averages of rows to tokens
one_hot, encode, decode    the same by dense masks, as in GShard
weigh_rows       routing weights on the experts' input
add, gate_rows, concat, add_bias    what is done with whole branches: shared experts, their gates, partial widths, output bias
"""

from moespec.dispatch import (
    _add,
    _add_bias,
    _combine,
    _concat,
    _decode,
    _drop,
    _encode,
    _gate_rows,
    _gather_choices,
    _mix,
    _one_hot,
    _permute,
    _plan,
    _reroute,
    _scatter_choices,
    _unmix,
    _weigh_rows,
)
from moespec.dispatch._add import add, add_backward
from moespec.dispatch._add_bias import add_bias, add_bias_backward
from moespec.dispatch._capacity import FORMULAS, capacity
from moespec.dispatch._combine import combine, combine_backward
from moespec.dispatch._concat import concat, concat_backward
from moespec.dispatch._decode import decode, decode_backward
from moespec.dispatch._drop import drop
from moespec.dispatch._encode import encode, encode_backward
from moespec.dispatch._gate_rows import gate_rows, gate_rows_backward
from moespec.dispatch._gather_choices import gather_choices, gather_choices_backward
from moespec.dispatch._mix import Mixed, mix, mix_backward
from moespec.dispatch._one_hot import OneHot, one_hot, one_hot_backward
from moespec.dispatch._permute import permute, permute_backward
from moespec.dispatch._plan import Plan, plan
from moespec.dispatch._reroute import reroute
from moespec.dispatch._scatter_choices import scatter_choices, scatter_choices_backward
from moespec.dispatch._unmix import unmix, unmix_backward
from moespec.dispatch._weigh_rows import weigh_rows, weigh_rows_backward

OPS = {op.short: op for op in (
    _drop.OP, _reroute.OP, _plan.OP, _permute.OP, _combine.OP, _scatter_choices.OP, _gather_choices.OP, _one_hot.OP, _encode.OP, _decode.OP,
    _mix.OP, _unmix.OP, _weigh_rows.OP, _add.OP, _gate_rows.OP, _concat.OP, _add_bias.OP)}

__all__ = [
    "FORMULAS", "OPS", "Mixed", "OneHot", "Plan", "add", "add_backward", "add_bias", "add_bias_backward", "capacity", "combine",
    "combine_backward", "concat", "concat_backward", "decode", "decode_backward", "drop", "encode", "encode_backward", "gate_rows",
    "gate_rows_backward", "gather_choices", "gather_choices_backward", "mix", "mix_backward", "one_hot", "one_hot_backward", "permute",
    "permute_backward", "plan", "reroute", "scatter_choices", "scatter_choices_backward", "unmix", "unmix_backward", "weigh_rows",
    "weigh_rows_backward",
]
