"""Where experts are placed: every one somewhere, equally many places a rank, and never worse than without replicas."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp

from moespec.cost.cluster import Placement, contiguous, eplb, round_robin

loads = st.lists(st.floats(0, 1e6), min_size=1, max_size=24)


@settings(max_examples=100, deadline=None)
@given(loads, st.integers(1, 6), st.integers(0, 3))
def test_every_expert_has_a_place_and_replicas_do_no_harm(load, ranks, spare):
    slots = -(-len(load) // ranks) + spare
    placed = eplb(load, ranks, slots=slots)
    assert placed.ranks == ranks
    assert placed.copies.min() >= 1
    assert placed.slots.shape[1] <= slots
    highest = placed.loads(load).max()
    assert highest <= min(make(len(load), ranks).loads(load).max() for make in (contiguous, round_robin))
    assert placed.loads(load).sum() == pytest.approx(sum(load))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 4), st.integers(0, 2), st.integers(0, 999))
def test_groups_stay_on_their_node(nodes, groups_each, size, spare, seed):
    groups, ranks = nodes * groups_each * 2, nodes * 2
    load = np.random.default_rng(seed).pareto(1, groups * size)
    placed = eplb(load, ranks, slots=groups * size // ranks + spare, nodes=nodes, groups=groups)
    assert (placed.slots >= 0).all()                                      # every place is filled
    node = {}
    for rank, row in enumerate(placed.slots):
        for expert in row:
            assert node.setdefault(expert // size, rank // 2) == rank // 2
    assert len(node) == groups
    assert np.bincount(list(node.values())).tolist() == [groups // nodes] * nodes


def test_a_case_by_hand():
    """Loads 9, 3, 2, 2 on two ranks of three places: the two replicas that are left go to the 9, which then is 3 a place."""
    placed = eplb([9, 3, 2, 2], 2, slots=3)
    assert placed.copies.tolist() == [3, 1, 1, 1]
    assert sorted(placed.loads([9, 3, 2, 2]).tolist()) == [8, 8]


@pytest.mark.parametrize(("load", "published"), [
    ([90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86], [5, 6, 5, 7, 8, 4, 3, 4, 10, 9, 10, 2, 0, 1, 11, 1]),
    ([20, 107, 104, 64, 19, 197, 187, 157, 172, 86, 16, 27], [7, 10, 6, 8, 6, 11, 8, 9, 2, 4, 5, 1, 5, 0, 3, 1]),
])
def test_the_example_published_with_eplb(load, published):
    """Two layers of 12 experts in 4 groups, 16 places on 8 ranks of 2 nodes."""
    assert eplb(load, 8, slots=2, nodes=2, groups=4).slots.reshape(-1).tolist() == published


def test_plain_placements():
    assert contiguous(5, 2).slots.tolist() == [[0, 1, 2], [3, 4, -1]]
    assert round_robin(5, 2).slots.tolist() == [[0, 2, 4], [1, 3, -1]]
    assert contiguous(2, 3).slots.tolist() == [[0], [1], [-1]]
    assert contiguous(5, 2).loads([1, 2, 3, 4, 5]).tolist() == [6, 9]


def optimum(load, ranks, slots):
    """The lowest possible load of the fullest rank: every number of copies, and for each the best packing as an integer program."""
    best = np.inf
    for more in itertools.combinations_with_replacement(range(len(load)), ranks * slots - len(load)):
        copies = 1 + np.bincount(more, minlength=len(load))
        best = min(best, packing(np.repeat(np.asarray(load) / copies, copies), ranks, slots))
    return best


def packing(weights, ranks, slots):
    """Items into bins of `slots` places; the variables are item x bin, then the load of the fullest bin."""
    n = len(weights)
    cost = np.append(np.zeros(n * ranks), 1.0)
    once = np.hstack([np.kron(np.eye(n), np.ones(ranks)), np.zeros((n, 1))])
    room = np.hstack([np.kron(np.ones(n), np.eye(ranks)), np.zeros((ranks, 1))])
    load = np.hstack([np.kron(weights, np.eye(ranks)), -np.ones((ranks, 1))])
    found = milp(cost, integrality=np.append(np.ones(n * ranks), 0), bounds=Bounds(0, np.append(np.ones(n * ranks), np.inf)),
                 constraints=[LinearConstraint(once, 1, 1), LinearConstraint(room, slots, slots), LinearConstraint(load, -np.inf, 0)])
    assert found.success
    return found.fun


def test_beside_the_optimum():
    """Greedy replication and packing stay within 12 % of the optimum on these, and within 3 % on average."""
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(12):
        load = rng.pareto(1.5, 4) + 0.1
        ratios.append(eplb(load, 2, slots=3).loads(load).max() / optimum(load, 2, 3))
    assert min(ratios) >= 1 - 1e-9
    assert max(ratios) <= 1.12
    assert np.mean(ratios) <= 1.03


@pytest.mark.parametrize(("call", "message"), [
    (lambda: eplb([1, 2, 3], 1, slots=2), "1 ranks of 2 places cannot hold 3 experts"),
    (lambda: eplb([1, -2], 2, slots=1), r"at least 0 \(load has shape \(2,\)\)"),
    (lambda: eplb([1, np.nan], 2, slots=1), "finite"),
    (lambda: eplb([1, 2], 3, slots=1, nodes=2), "2 nodes do not divide 3 ranks"),
    (lambda: eplb([1, 2, 3], 2, slots=2, groups=2), "2 groups not 3 experts"),
    (lambda: Placement(np.array([[0, 1], [2, 2]]), 4), r"\[3\] of 4 experts have no place"),
    (lambda: Placement(np.array([[0, 5]]), 2), "holds 0 .. 5"),
    (lambda: Placement(np.array([0, 1]), 2), "wanted integers R S"),
    (lambda: contiguous(4, 0), "contiguous: ranks=0 is below 1"),
    (lambda: round_robin(0, 2), "round_robin: experts=0 is below 1"),
    (lambda: eplb([], 2, slots=1), "eplb: experts=0 is below 1"),
    (lambda: contiguous(4, 2).loads([1, 2, 3]), r"load has shape \(3,\), wanted \(4,\)"),
])
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
