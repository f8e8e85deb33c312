"""Defects of selections that do more than take the k largest."""

from __future__ import annotations

import numpy as np

from moespec import gates
from moespec.conformance.mutants._mutant import Mutant


def _select(**changes):
    """`gates.select` under other attributes; a change may be a function of the given ones."""
    def forward(scores, bias=None, indices=None, **attrs):
        return gates.select(scores, bias, indices, **{**attrs, **{n: v(attrs) if callable(v) else v for n, v in changes.items()}})
    return forward


def _bias_left_out(scores, bias=None, indices=None, **attrs):
    return gates.select(scores, None, indices, **attrs)


def _finite_sentinel(scores, bias=None, indices=None, **attrs):
    if indices is not None or attrs.get("fill", -np.inf) == 0:
        return gates.select(scores, bias, indices, **attrs)
    lifted = np.maximum(scores, scores.dtype.type(-1e9))               # what lies below the sentinel is lost in it
    return gates.select(lifted, bias, **attrs)


def _higher_group_on_ties(scores, bias=None, indices=None, *, groups=1, **attrs):
    if indices is not None or groups == 1:
        return gates.select(scores, bias, indices, groups=groups, **attrs)
    size = scores.shape[1] // groups
    turned = np.arange(scores.shape[1]).reshape(groups, size)[::-1].ravel()
    found, saved = gates.select(scores[:, turned], None if bias is None else bias[turned], groups=groups, **attrs)
    return turned[found], saved


def _padding_reads_the_last_row(tokens, table):
    return (table[tokens] if len(table) else gates.lookup(tokens, table)[0]).astype(np.int64), None


def _table_read_flat(tokens, table):
    places = np.maximum(tokens, 0)[:, None] + len(table) * np.arange(table.shape[1])          # a row-major table read as column-major
    return np.where((tokens >= 0)[:, None], table.ravel()[places], -1).astype(np.int64), None


def _limit_inclusive(indices, weights, *, experts):
    return gates.limit_ids(indices, weights, experts=experts + 1)


def _limit_keeps_weights(indices, weights, *, experts):
    (kept, _), saved = gates.limit_ids(indices, weights, experts=experts)
    return (kept, np.where(indices >= 0, weights, weights.dtype.type(0))), saved


def _limit_to_expert_0(indices, weights, *, experts):
    (kept, kept_weights), saved = gates.limit_ids(indices, weights, experts=experts)
    return (np.where(indices >= experts, 0, kept), kept_weights), saved


MUTANTS = (
    Mutant("gates.select", "bias left out", _bias_left_out),
    Mutant("gates.select", "masked with 0", _select(fill=0.0)),
    Mutant("gates.select", "masked with a finite sentinel", _finite_sentinel),
    Mutant("gates.select", "a group judged by its maximum", _select(reduce="max")),
    Mutant("gates.select", "a group judged without the bias", _select(base="raw")),
    Mutant("gates.select", "groups left out", _select(keep=lambda attrs: attrs.get("groups", 1))),
    Mutant("gates.select", "ties to the higher group", _higher_group_on_ties),
    Mutant("gates.lookup", "padding reads the last row", _padding_reads_the_last_row),
    Mutant("gates.lookup", "table read column by column", _table_read_flat),
    Mutant("gates.limit_ids", "the first class above the experts kept", _limit_inclusive),
    Mutant("gates.limit_ids", "weight of what is taken out kept", _limit_keeps_weights),
    Mutant("gates.limit_ids", "taken out becomes expert 0", _limit_to_expert_0),
)
