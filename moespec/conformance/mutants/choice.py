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


MUTANTS = (
    Mutant("gates.select", "bias left out", _bias_left_out),
    Mutant("gates.select", "masked with 0", _select(fill=0.0)),
    Mutant("gates.select", "masked with a finite sentinel", _finite_sentinel),
    Mutant("gates.select", "a group judged by its maximum", _select(reduce="max")),
    Mutant("gates.select", "a group judged without the bias", _select(base="raw")),
    Mutant("gates.select", "groups left out", _select(keep=lambda attrs: attrs.get("groups", 1))),
    Mutant("gates.select", "ties to the higher group", _higher_group_on_ties),
)
