"""What the balance losses share: a constant per expert times the mean probability of the expert."""

from typing import NamedTuple

import numpy as np

from moespec import corpus, indexing
from moespec.losses._mean import valid_count, valid_share
from moespec.numerics import acc, softmax, widen


class Saved(NamedTuple):
    coefficient: np.ndarray     # E
    share: np.ndarray           # T   of the mean over tokens
    dtype: np.dtype


def weigh_means(probs, coefficient, mask=None):
    r""":math:`L = \sum_i c_i P_i` with the mean :math:`P_i` of the valid tokens, in the accumulation dtype; 0 if there are none."""
    p, share = widen(probs), valid_share(len(probs), mask, acc(probs))
    mean = (share[:, None] * (p if mask is None else np.where(mask[:, None], p, 0.0))).sum(0)
    coefficient = coefficient.astype(acc(probs))
    return (coefficient * mean).sum().astype(acc(probs)), Saved(coefficient, share, probs.dtype)


def weigh_means_backward(saved, dloss):
    r""":math:`\bar p_{ti} = c_i [t \in V] \bar L / |V|`: the constants get no gradient."""
    return (dloss * saved.coefficient * saved.share[:, None]).astype(saved.dtype)


def valid_counts(indices, experts, mask=None):
    """int64[E]: how often valid tokens chose every expert."""
    return indexing.counts(indices if mask is None else np.where(mask[:, None], indices, -1), experts)


def fractions(indices, experts, mask=None, normalizer="assignments"):
    """float64[E]: counts over |V| K ("assignments": they sum to 1) or over |V| ("tokens": they sum to K)."""
    per_token = indices.shape[1] if normalizer == "assignments" else 1
    return valid_counts(indices, experts, mask) / max(valid_count(len(indices), mask) * per_token, 1)


# ---- what is checked -------------------------------------------------------------------------------------------------

def routed(rng, experts=8, k=2):
    """Routings of the corpus with probabilities, and again with every second token masked."""
    for case in corpus.routings(rng, experts=experts, k=k):
        t = len(case.inputs["indices"])
        probs = softmax(corpus.normal(rng, t, experts))
        yield case.add(probs=probs)
        yield case.add("masked", probs=probs, mask=np.arange(t) % 2 == 0)


NORMALIZERS = ("assignments", "tokens")


def require_normalizer(name, normalizer, shape):
    """Refuse an unknown normaliser."""
    if normalizer not in NORMALIZERS:
        raise ValueError(f"{name}: normalizer={normalizer!r} is not one of {', '.join(NORMALIZERS)} (indices has shape {tuple(shape)})")


def valid_tokens(run):
    """The tokens that count, as a list."""
    return [t for t in range(run.dims.T) if run.inputs["mask"] is None or run.inputs["mask"][t]]


def invalid_get_none(run):
    """The requirement that padding learns nothing."""
    return None if run.inputs["mask"] is None else run.inputs["mask"][:, None] | (run.grads["probs"] == 0)
