"""The error arithmetic: bounds hold on real float32 runs, and what has no rule is refused."""

import ml_dtypes  # noqa: F401
import numpy as np
import pytest

from moespec import indexing, numerics, pairs
from moespec.pairs import Pair, bound, pair, policy, replay


def exact(x, dtype="float32"):
    return Pair(np.asarray(x).astype(dtype), 0.0, dtype)


@pytest.mark.parametrize("name", ["exp", "log", "log1p", "expm1", "sqrt", "tanh", "square"])
def test_bound_covers_numpy_float32(name):
    x = np.random.default_rng(0).uniform(0.01, 20, 4000).astype("float32")
    with policy("float32"):
        want = getattr(np, name)(exact(x))
    got = getattr(np, name)(x).astype(float)
    assert (abs(got - want.v) <= bound(want, "float32")).all()
    assert (bound(want, "float32") <= 3e-5 * abs(want.v) + 1e-5).all()


@pytest.mark.parametrize("exponent", [0.0, 1 / 3, 1.0, 2.0, 3.5, -1.0])
def test_bound_covers_a_float32_power_and_the_form_by_logarithms(exponent):
    x = np.random.default_rng(0).uniform(0.01, 20, 4000).astype("float32")
    with policy("float32"):
        want = np.power(exact(x), exponent)
    for got in (np.power(x, np.float32(exponent)), np.exp(np.float32(exponent) * np.log(x))):
        assert (abs(got.astype(float) - want.v) <= bound(want, "float32")).all()
    assert (bound(want, "float32") <= 3e-5 * want.v).all()
    with policy("float32"):
        moved = np.power(Pair(np.array([2.0, 0.0]), np.array([0.5, 0.25]), "float32"), 2.0)
    assert moved.e[0] >= 2.5**2 - 4
    assert moved.e[1] >= 0.25**2


@pytest.mark.parametrize("order", [np.s_[:], np.s_[::-1]])
def test_sequential_sum_of_equal_numbers_is_admitted(order):
    x = np.full(1000, 0.1, "float32")[order]
    with policy("float32"):
        want = exact(x).sum()
    got = np.cumsum(x, dtype="float32")[-1]                 # strictly sequential: 160 units off, above 8 + 4 sqrt(n)
    assert abs(float(got) - want.v) <= bound(want, "float32")
    assert abs(float(got) - want.v) > (8 + 4 * np.sqrt(1000)) * 2.0**-24 * 100


def test_matmul_counts_the_contraction():
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((7, 300)).astype("float32"), rng.standard_normal((300, 5)).astype("float32")
    with policy("float32"):
        want = exact(a) @ exact(b)
    assert (abs((a @ b).astype(float) - want.v) <= bound(want, "float32")).all()
    lost = a[:, :-1] @ b[:-1]
    assert (abs(lost.astype(float) - want.v) > bound(want, "float32")).any()


def test_adding_zero_and_multiplying_by_powers_of_two_are_exact():
    with policy("float32"):
        x = exact([1.5, -3.0])
        assert ((x + 0.0) * 0.5).e.max() == 0


def test_either_side_of_a_kink_is_admitted():
    with policy("float32"):
        x = Pair(np.array([1e-9, 1.0]), np.array([1e-6, 0.0]), "float32")
        step = (x > 0) * exact([5.0, 5.0])
    assert step.e[0] >= 5
    assert step.e[1] < 1e-5


def test_what_is_not_finite_has_no_error_and_is_compared_exactly():
    with policy("float32"), np.errstate(all="ignore"):
        y = np.exp(exact([-np.inf, np.nan, 0.0]) - 1.0)
    assert y.v[0] == 0
    assert np.isfinite(y.e).all()


def test_division_by_something_that_may_be_zero_says_nothing():
    with policy("float32"):
        y = 1.0 / Pair(np.array([1e-9]), np.array([1e-8]), "float32")
    assert y.e[0] == np.inf


def test_replay_is_exact_where_the_interval_rounds_to_one_value():
    x = Pair(np.array([1.0 + 2.0**-10, 1.0 + 2.0**-8]), np.array([1e-7, 1e-7]), "float32")
    with policy("bfloat16"):
        y = replay(x, "bfloat16")
    assert y.v[0] == 1.0
    assert y.e[0] == 0
    assert y.e[1] > 0                                       # half way between two bfloat16 numbers: both may come out


def test_stored_points_round_only_where_declared():
    x = Pair(np.array([1.0 + 2.0**-10]), 0.0, "float32")
    with policy("bfloat16", stores={"h": "bfloat16"}):
        assert pairs.stored(x, "h").v[0] == 1.0
        assert pairs.stored(x, "g").v[0] == x.v[0]
    assert numerics.stored(x.v, "h") is x.v


@pytest.mark.parametrize("wrong", [lambda x: np.asarray(x), lambda x: bool(x), lambda x: np.cumprod(x), lambda x: np.arctan(x)])
def test_nothing_drops_an_error_silently(wrong):
    with pytest.raises(TypeError, match=r"Pair|no error rule"):
        wrong(exact([1.0]))


def test_scatter_charges_every_term_once():
    index = np.array([[0, 0], [0, 1], [-1, 1]])
    with policy("float32"):
        y = indexing.add_rows(exact(np.ones((3, 2))), index, 2)
    assert y.v.tolist() == [3, 2]
    assert (y.e <= 4 * 2.0**-24 * 3).all()


def test_a_plain_array_is_exact():
    assert pair(np.ones(3, "float32")).e.max() == 0
    assert pair(np.ones(3, "float32")).dtype == "float32"


def test_prefix_sums_are_bounded_term_by_term():
    with policy("float32"):
        x = np.array([[1.0, 0.0, 0.5, 2.0]])
        sums = np.cumsum(Pair(x, 0.0, "float32"), axis=1)
        np.testing.assert_array_equal(sums.v, np.cumsum(x, axis=1))
        np.testing.assert_array_equal(sums.e[0] / 2.0**-24, [1 * 1.0, 1 * 1.0, 2 * 1.5, 3 * 3.5])          # g(n) = n: zeros are free


def test_an_order_statistic_is_as_uncertain_as_the_worst_of_its_row():
    x = Pair(np.array([[3.0, 1.0], [np.nan, 0.0]]), np.array([[0.1, 0.4], [0.0, 0.2]]), "float32")
    y = np.sort(x, axis=1)
    np.testing.assert_array_equal(y.v, [[1.0, 3.0], [0.0, np.nan]])
    np.testing.assert_array_equal(y.e, [[0.4, 0.4], [0.2, 0.2]])


def test_what_is_made_of_a_constant_is_charged():
    """A third is no float32: a kernel that rounds it is within the bound, and without pairs it stays what it is."""
    with policy("float32"):
        third = numerics.constant(1.0, exact([0.5])) / 3
    assert abs(float(np.float32(1) / np.float32(3)) - 1 / 3) <= bound(third, "float32")
    assert numerics.constant(1.0, np.float32([0.5])) == 1.0
