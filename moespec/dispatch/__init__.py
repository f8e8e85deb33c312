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
"""

from moespec.dispatch import (
    _combine,
    _decode,
    _drop,
    _encode,
    _gather_choices,
    _mix,
    _one_hot,
    _permute,
    _plan,
    _reroute,
    _scatter_choices,
    _unmix,
)
from moespec.dispatch._capacity import FORMULAS, capacity
from moespec.dispatch._combine import combine, combine_backward
from moespec.dispatch._decode import decode, decode_backward
from moespec.dispatch._drop import drop
from moespec.dispatch._encode import encode, encode_backward
from moespec.dispatch._gather_choices import gather_choices, gather_choices_backward
from moespec.dispatch._mix import Mixed, mix, mix_backward
from moespec.dispatch._one_hot import OneHot, one_hot, one_hot_backward
from moespec.dispatch._permute import permute, permute_backward
from moespec.dispatch._plan import Plan, plan
from moespec.dispatch._reroute import reroute
from moespec.dispatch._scatter_choices import scatter_choices, scatter_choices_backward
from moespec.dispatch._unmix import unmix, unmix_backward

OPS = {op.short: op for op in (
    _drop.OP, _reroute.OP, _plan.OP, _permute.OP, _combine.OP, _scatter_choices.OP, _gather_choices.OP, _one_hot.OP, _encode.OP, _decode.OP,
    _mix.OP, _unmix.OP)}

__all__ = [
    "FORMULAS", "OPS", "Mixed", "OneHot", "Plan", "capacity", "combine", "combine_backward", "decode", "decode_backward", "drop", "encode",
    "encode_backward", "gather_choices", "gather_choices_backward", "mix", "mix_backward", "one_hot", "one_hot_backward", "permute",
    "permute_backward", "plan", "reroute", "scatter_choices", "scatter_choices_backward", "unmix", "unmix_backward",
]
