"""Defects of small gates: tokens of one kind; norms whose scale is stored less one, or acts first."""

from __future__ import annotations

import numpy as np

from moespec import gates
from moespec.conformance.mutants._mutant import Mutant


def _the_other(indices, kinds, *, other=False):
    return gates.of_kind(indices, kinds, other=not other)


def _positive_only(indices, kinds, *, other=False):
    return np.where(((kinds > 0) == other)[:, None], indices, -1), None


def _to_expert_0(indices, kinds, *, other=False):
    kept, _ = gates.of_kind(indices, kinds, other=other)
    return np.where(((kinds != 0) == other)[:, None], kept, 0), None


def _norm_with(**wrong):
    def forward(x, scale=None, **attrs):
        right = {name: value for name, value in wrong.items() if scale is not None or not value}
        return gates.rms_norm(x, scale, **{**attrs, **right})
    return forward


def _second_first(first, second):
    """Entry b n + a."""
    sums = first[:, None, :] + second[:, :, None]
    return sums.reshape(len(first), -1), gates.pair_sums(first, second)[1]


MUTANTS = (
    Mutant("gates.pair_sums", "the second half varies slowest", _second_first),
    Mutant("gates.rms_norm", "takes what is stored for the scale", _norm_with(offset=0.0)),
    Mutant("gates.rms_norm", "always scales after it divides", _norm_with(before=False)),
    Mutant("gates.rms_norm", "always scales before it divides", _norm_with(before=True)),
    Mutant("gates.of_kind", "keeps the other kind", _the_other),
    Mutant("gates.of_kind", "a negative kind counts as 0", _positive_only),
    Mutant("gates.of_kind", "the others go to expert 0", _to_expert_0),
)
