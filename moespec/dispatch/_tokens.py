"""Test inputs of the ops that treat every token alike: x [T, D] and a second array beside it."""

import numpy as np

from moespec import corpus
from moespec.op import Case


def beside(rng, first, second, shape):
    """Cases with inputs `first` [T, D] and `second` of the shape `shape(T, D)`, drawn alike; one with NaN and inf in the first."""
    def case(name, draw, t, d, *tags):
        return Case(name, {first: draw(rng, t, d), second: draw(rng, *shape(t, d))}, {}, frozenset(tags))

    yield case("normal", corpus.normal, 7, 5)
    yield case("integers", corpus.integers, 7, 5, "exact")
    yield case("one_token", corpus.normal, 1, 3)
    yield case("no_tokens", corpus.normal, 0, 4, "empty")
    yield case("odd_sizes", corpus.normal, 33, 19)
    yield case("small", lambda r, *s: corpus.normal(r, *s, scale=1e-3), 4, 3)
    spoilt = case("nan_and_inf", corpus.normal, 4, 3, "nan", "inf")
    spoilt.inputs[first][1, 2], spoilt.inputs[first][2, 0] = np.nan, np.inf
    yield spoilt


def near(run, got, want, size, roundings):
    """Whether `got` is within `roundings` of `want`, where `size` is the sum of the absolute values added up; NaN meets NaN."""
    got, want = np.asarray(got, float), np.asarray(want, float)
    return ~np.isfinite(want) | (np.abs(got - want) <= roundings * run.unit * size + 2.0**-24 * (run.dtype.name == "float16"))
