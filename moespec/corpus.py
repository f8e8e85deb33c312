"""Shared test inputs: logits, routings, rows and the exact grids, each case named by what it tests.

Tags
----
exact : every operation on these numbers is exact in every dtype, so results must match bit for bit, in any order.
exact_forward : the same, but only for the forward.
nan, inf : compared by position; left out of the gradient check.
large : leaves the range of float16 on the way; not run there, and left out of the gradient check.
kink : sits on a non-differentiable point (the convention is checked, differences are not).
steep : smooth, but too steep for differences of 6e-6; left out of the gradient check.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from moespec.op import Case

# Warps, blocks and powers of two end here: one thread an expert at 256, a block scan at 1024.
EXPERTS = (2, 3, 31, 64, 71, 128, 129, 160, 255, 256, 257, 384, 512, 896, 1025)
TOKENS = (15, 16, 17, 127, 128, 129)
NO_DIFFERENCES = frozenset({"nan", "inf", "large", "kink", "steep"})


def normal(rng, *shape, scale=1.0):
    """Normal numbers."""
    return rng.standard_normal(shape) * scale


def dyadic(rng, *shape, bits=3, high=4):
    """Multiples of 2**-bits in [-high, high]: exact in every dtype; many ties."""
    return rng.integers(-high * 2**bits, high * 2**bits + 1, shape) / 2.0**bits


def integers(rng, *shape, high=2):
    """Integers in [-high, high], as floats: sums of their products are exact in float32 in any order."""
    return rng.integers(-high, high + 1, shape).astype(np.float64)


def off_zero(rng, *shape, scale=1.0):
    """Normal numbers pushed away from 0 by 2**-6, so that no difference straddles a kink there, in any dtype."""
    x = normal(rng, *shape, scale=scale)
    return x + np.where(x < 0, -1, 1) * 2.0**-6


def logits(rng, experts=8):
    """Logits [T, E]: the regimes and special values that routers have gone wrong on."""
    def case(name, x, *tags):
        return Case(name, {"logits": np.asarray(x, np.float64)}, {}, frozenset(tags))

    E = experts
    yield case("normal", normal(rng, 12, E))
    yield case("small", normal(rng, 5, E, scale=1e-3))
    yield case("scaled30", normal(rng, 6, E, scale=30.0), "steep")
    yield case("huge", normal(rng, 6, E, scale=1000.0), "large")
    yield case("dyadic", dyadic(rng, 16, E))
    yield case("all_equal", np.full((3, E), 0.5))
    yield case("tie_lower_index", np.tile(np.array([1.0, 2.0] * E)[:E], (2, 1)))
    yield case("signed_zeros", np.tile(np.array([0.0, -0.0] * E)[:E], (2, 1)))
    yield case("all_negative", np.full((2, E), -1000.0), "large")
    yield case("one_token", normal(rng, 1, E))
    yield case("no_tokens", np.zeros((0, E)), "empty")
    yield case("one_expert", normal(rng, 4, 1))
    yield case("seven_experts", normal(rng, 9, 7))
    yield case("many_experts", normal(rng, 2, 65))
    for n in EXPERTS:
        yield case(f"experts_{n}", normal(rng, 1, n))
    for n in TOKENS:
        yield case(f"tokens_{n}", normal(rng, n, 4))
    yield case("ties_of_saturation", 20 + 20 * rng.random((4, E)), "large", "steep")                  # a sigmoid is 1 in float32: ties
    yield case("tiny_shares", np.array([[0.0, -90.0, -95.0, -104.0] * E])[:, :E], "steep")     # weights below the range of float16 or float32
    yield case("nan", _with(normal(rng, 4, E), ((1, 2 % E), np.nan), ((3, 0), np.nan), ((3, E - 1), np.nan)), "nan")
    yield case("all_nan", _with(normal(rng, 2, E), ((0, slice(None)), np.nan)), "nan")
    yield case("minus_inf", _with(normal(rng, 4, E), ((0, 0), -np.inf), ((2, slice(1, None)), -np.inf)), "inf")
    yield case("plus_inf", _with(normal(rng, 3, E), ((1, E // 2), np.inf)), "inf", "nan")


def _with(x, *values):
    for where, v in values:
        x[where] = v
    return x


def routings(rng, experts=8, tokens=12, k=2):
    """Expert ids [T, K]: loads, sentinels and repeats that dispatchers have gone wrong on."""
    def case(name, ids, *tags):
        return Case(name, {"indices": np.asarray(ids, np.int64)}, {}, frozenset(tags))

    E, T, K = experts, tokens, k
    distinct = np.argsort(rng.random((T, E)), axis=1)[:, :K]
    yield case("distinct", distinct)
    yield case("some_missing", np.where(rng.random((T, K)) < 0.3, -1, distinct))
    yield case("one_empty_token", _with(distinct.copy(), ((T // 2, slice(None)), -1)))
    yield case("all_missing", np.full((3, K), -1))
    yield case("repeats", np.repeat(rng.integers(0, E, (T, 1)), K, axis=1))
    yield case("all_to_one", np.full((T, 1), E - 1))
    yield case("long_queue", np.zeros((300, 1)))                      # a bfloat16 counter sticks at 256
    yield case("empty_experts", np.where(distinct % 2 == 0, distinct, -1))
    yield case("no_tokens", np.zeros((0, K)), "empty")
    yield case("one_token", distinct[:1])
    yield case("all_experts", np.tile(np.arange(E), (3, 1)))
    yield case("zipf", np.minimum(rng.zipf(1.5, (40, K)) - 1, E - 1))
    for n in TOKENS:
        yield case(f"tokens_{n}", rng.integers(-1, E, (n, K)))


def finite(run):
    """[T, 1]-broadcastable: tokens whose real inputs are all finite (True everywhere if no input has a token axis)."""
    ok: Any = None
    for x in run.inputs.values():
        if x is not None and x.ndim == 2 and x.dtype.kind not in "iub":
            row: Any = np.isfinite(np.asarray(x, np.float64)).all(1)
            ok = row if ok is None or len(ok) != len(row) else ok & row
    return ok if ok is not None else np.True_
