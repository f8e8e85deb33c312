"""Loads and draws: the stated probabilities, distinct experts, limits of nodes; closed forms beside enumeration and beside samples."""

import itertools

import numpy as np
import pytest

from moespec.cost.cluster import Limited, Trace, Uniform, Zipf, reached
from moespec.cost.cluster_load import capped, systematic

N = 16_000


def frequencies(ids, experts):
    return np.bincount(ids.reshape(-1), minlength=experts) / len(ids)


def distinct(ids):
    return (np.diff(np.sort(ids, 1), axis=1) > 0).all()


@pytest.mark.parametrize("load", [Uniform(), Zipf(0.7), Zipf(1.5, seed=None)])
def test_every_expert_is_drawn_as_often_as_stated(load):
    chances = load.inclusion(24, 5)
    assert chances.sum() == pytest.approx(5)
    assert chances.max() <= 1
    ids = load.draw(np.random.default_rng(0), N, 24, 5)
    assert distinct(ids)
    error = 5 * np.sqrt(chances * (1 - chances) / N)                     # five standard deviations
    assert (np.abs(frequencies(ids, 24) - chances) <= error).all()


def test_equal_chances_are_drawn_as_sets_of_equal_chance():
    """Not only the experts: all 15 pairs out of 6 come equally often."""
    ids = np.sort(Uniform().draw(np.random.default_rng(1), N, 6, 2), 1)
    pairs = np.bincount(ids[:, 0] * 6 + ids[:, 1], minlength=36)
    pairs = pairs[pairs > 0] / N
    assert len(pairs) == 15
    assert np.abs(pairs - 1 / 15).max() < 4 * 5 * np.sqrt(1 / 15 / N)    # tokens of one order are not independent


def test_capped_by_hand():
    assert capped([8, 1, 1], 2).tolist() == [1, 0.5, 0.5]
    assert capped([1, 1, 1, 1], 2).tolist() == [0.5] * 4
    assert capped([[4, 1, 1, 0], [1, 1, 1, 1]], 3).tolist() == [[1, 1, 1, 0], [0.75] * 4]
    with pytest.raises(ValueError, match="k=3 exceeds"):
        capped([1, 1, 0], 3)


def test_certain_experts_are_always_drawn():
    ids = systematic(np.random.default_rng(0), np.tile([1.0, 0.5, 0.5, 1.0], (999, 1)), 3)
    assert (np.isin(ids, [0, 3]).sum(1) == 2).all()


def test_zipf_is_in_proportion_where_nothing_is_capped():
    chances = Zipf(1.0, seed=None).inclusion(100, 1)
    np.testing.assert_allclose(chances[[1, 4, 99]] / chances[0], [1 / 2, 1 / 5, 1 / 100])
    np.testing.assert_allclose(np.sort(Zipf(1.0, seed=3).inclusion(100, 1))[::-1], chances)


def test_trace_is_what_was_recorded():
    trace = Trace([[0, 1], [1, -1], [2, 1], [1, 0]])
    assert trace.inclusion(4, 2).tolist() == [0.5, 1, 0.25, 0]
    drawn = trace.draw(np.random.default_rng(0), 50, 4, 2)
    assert {tuple(row) for row in drawn.tolist()} <= {(0, 1), (1, -1), (2, 1), (1, 0)}
    for ids, message in (([[0, 9]], "do not fit k=2 of 4"), ([[0]], "1 a token"), ([[-2, 1]], "ids -2")):
        with pytest.raises(ValueError, match=message):
            Trace(ids).inclusion(4, 2)
    with pytest.raises(ValueError, match="wanted integers T k"):
        Trace([0.5])


@pytest.mark.parametrize(("experts", "k", "domains"), [(6, 2, 3), (8, 3, 2), (8, 4, 4), (6, 6, 2), (5, 1, 5)])
def test_reached_beside_enumeration(experts, k, domains):
    held = experts // domains
    sets = list(itertools.combinations(range(experts), k))
    mean = np.mean([len({e // held for e in chosen}) for chosen in sets])
    assert reached(experts, k, domains) == pytest.approx(mean, rel=1e-12)


def test_reached_of_deepseek_v3():
    """256 experts, 8 a token, 8 nodes: 5.30 nodes without a limit; with a limit of 4 no more than 4, and nearly all of them."""
    assert reached(256, 8, 8) == pytest.approx(8 * (1 - np.prod([(224 - i) / (256 - i) for i in range(8)])))
    assert reached(256, 8, 8, limit=4) == pytest.approx(4 * (1 - np.prod([(96 - i) / (128 - i) for i in range(8)])))
    assert reached(256, 8, 8, limit=4) <= 4
    assert reached(256, 8, 8, limit=1) == 1


@pytest.mark.parametrize("limit", [1, 2, 3, 8])
def test_closed_form_and_sample_agree_under_a_limit(limit):
    """Distinct nodes, and distinct ranks (two a node)."""
    experts, k, nodes = 64, 6, 8
    ids = Limited(Uniform(), np.arange(experts) // 8, k, limit).draw(np.random.default_rng(limit), N, experts, k)
    assert distinct(ids)
    for domains, each in ((nodes, 1), (2 * nodes, 2)):
        seen = np.sort(ids * domains // experts, 1)
        count = 1 + (np.diff(seen, axis=1) > 0).sum(1)
        assert count.max() <= min(limit * each, k)
        wanted = reached(experts, k, domains, domains_of_node=each, limit=limit)
        assert abs(count.mean() - wanted) <= 5 * count.std() / np.sqrt(N) + 1e-12


def test_a_limit_keeps_equal_experts_equal_and_hot_ones_hot():
    node = np.arange(32) // 4
    assert Limited(Uniform(), node, 4, 2).inclusion(32, 4).tolist() == [0.125] * 32
    hot = Limited(Zipf(1.0, seed=None), node, 4, 2).inclusion(32, 4)
    assert hot.sum() == pytest.approx(4)
    assert hot[:4].mean() > 2 * hot[4:].mean()


@pytest.mark.parametrize(("call", "message"), [
    (lambda: Zipf(-1), "s=-1"),
    (lambda: Zipf(np.nan), "s=nan"),
    (lambda: Limited(Trace([[0, 1]]), np.arange(4) // 2, 2, 1).draw(np.random.default_rng(0), 1, 4, 2), "routed already"),
    (lambda: Limited(Uniform(), np.arange(8) // 2, 3, 1).draw(np.random.default_rng(0), 1, 8, 3), "k=3 experts do not fit in 1 of 4 nodes"),
    (lambda: reached(10, 2, 4), "do not divide"),
    (lambda: reached(8, 2, 0), "reached: domains=0 is below 1"),
    (lambda: reached(8, 2, -4), "reached: domains=-4 is below 1"),
    (lambda: reached(8, 0, 4, limit=0), "reached: limit=0 is below 1"),
    (lambda: Uniform().inclusion(4, -1), "k=-1 is below 0"),
    (lambda: capped([np.nan, 1, 1], 1), r"shares are not finite numbers of at least 0 \(shares has shape \(3,\)\)"),
    (lambda: Trace(np.zeros((3, 0), int)), r"indices is int64\[3, 0\]"),
    (lambda: reached(8, 5, 4, limit=2), "k=5 of 4 open experts"),
])
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
