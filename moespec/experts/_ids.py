"""Experts that read tokens by their ids, without rows: what they refuse alike, and what they are tested on."""

import numpy as np

from moespec import corpus
from moespec.op import Case
from moespec.pairs import FLOOR


def within(indices, first, last=None):
    """bool[T, K]: whether an id lies in first .. last-1, or in all ids from `first` on; -1 never does."""
    return (indices >= first) & (indices < (np.inf if last is None else last))


def require_first(name, indices, first):
    """Refuse an id below -1, and a range of ids that starts below 0."""
    if indices.size and indices.min() < -1:
        raise ValueError(f"{name}: indices holds {int(indices.min())}, below -1 (indices has shape {tuple(indices.shape)})")
    if first < 0:
        raise ValueError(f"{name}: first={first} must be at least 0 (indices has shape {tuple(indices.shape)})")


# ---- what is checked -------------------------------------------------------------------------------------------------

def tokens(rng, **more):
    """The routings of the corpus over 8 experts, with tokens and weights; `more` draws further inputs."""
    for draw, suffix, tags in ((corpus.normal, "", ()), (corpus.integers, "integers", ("exact",))):
        for case in corpus.routings(rng, tokens=6):
            shape = case.inputs["indices"].shape
            inputs = {"x": draw(rng, shape[0], 3), "weights": draw(rng, *shape), **{n: draw(rng, *s) for n, s in more.items()}}
            yield case.add(suffix, tags, **inputs)


def first_errors(name, **right):
    """The wrong ids and ranges that `require_first` refuses."""
    return (
        (Case("id_below", {**right, "indices": np.full((4, 2), -2)}, {"first": 0}), ValueError,
         rf"^{name}: indices holds -2, below -1 \(indices has shape \(4, 2\)\)"),
        (Case("first_below", right, {"first": -1}), ValueError, rf"^{name}: first=-1 must be at least 0 \(indices has shape \(4, 2\)\)"),
        (Case("other_choices", {**right, "weights": np.zeros((4, 3))}, {"first": 0}), ValueError,
         rf"^{name}: weights has shape \(4, 3\), but K must be 2"),
    )


def near(run, got, want, size, roundings):
    """Whether `got` is within `roundings` of `want`, where `size` is the sum of the absolute values; judged where that is finite."""
    off = np.abs(np.asarray(got, float) - want)
    return ~np.isfinite(size) | (off <= (roundings * run.unit + 2.0**-50) * size + FLOOR[run.dtype.name])
