"""Bytes on the wire: the closed formulas against ranks that pass blocks of bytes to each other."""

import numpy as np
import pytest

from moespec import cost


class Wire:
    """Counts what ranks hand to others."""

    def __init__(self, ranks):
        self.sent, self.received = [0] * ranks, [0] * ranks

    def send(self, source, target, array):
        if source != target:
            self.sent[source] += array.nbytes
            self.received[target] += array.nbytes

    @property
    def traffic(self):
        return cost.Traffic(tuple(self.sent), tuple(self.received))


@pytest.mark.parametrize(("n", "ranks"), [(0, 3), (2, 3), (7, 3), (12, 4), (5, 1)])
def test_blocks_are_those_of_array_split(n, ranks):
    assert cost.blocks(n, ranks) == tuple(len(part) for part in np.array_split(np.arange(n), ranks))


@pytest.mark.parametrize(("n", "ranks"), [(12, 4), (13, 4), (2, 5), (0, 3), (9, 1), (7, 2)])
def test_all_reduce_is_what_parts_that_travel_weigh(n, ranks):
    wire = Wire(ranks)
    arrays = [np.arange(n, dtype=np.float32) * r for r in range(ranks)]
    sums = []
    for s in range(ranks):
        parts = [np.array_split(a, ranks)[s] for a in arrays]
        for r, part in enumerate(parts):
            wire.send(r, s, part)
        sums.append(sum(parts))
    assert wire.traffic == cost.reduce_scatter(n, 4, ranks)
    for s in range(ranks):
        for r in range(ranks):
            wire.send(s, r, sums[s])
    assert np.array_equal(np.concatenate(sums), np.arange(n) * sum(range(ranks)))
    assert wire.traffic == cost.all_reduce(n, 4, ranks)


def test_all_reduce_of_an_even_cut_sends_twice_all_but_its_own_part():
    assert cost.all_reduce(1000, 2, 10).sent == (2 * 2 * 900,) * 10


@pytest.mark.parametrize(("experts", "ranks"), [(8, 4), (7, 3), (3, 5), (4, 1)])
def test_a_layer_moves_what_its_rows_weigh(experts, ranks):
    rng = np.random.default_rng(experts)
    counts, width = rng.integers(0, 9, (ranks, experts)), 6
    wires = {name: Wire(ranks) for name in ("counts", "dispatch", "combine", "combine_gradient", "dispatch_gradient")}
    own = np.array_split(np.arange(experts), ranks)
    for r in range(ranks):
        for s in range(ranks):
            rows = np.zeros((counts[r, own[s]].sum(), width), np.float32)
            wires["counts"].send(r, s, counts[r, own[s]].astype(np.int64))
            wires["dispatch"].send(r, s, rows)
            wires["combine"].send(s, r, rows.astype(np.float16))
            wires["combine_gradient"].send(r, s, rows.astype(np.float16))
            wires["dispatch_gradient"].send(s, r, rows)
    found = cost.exchange(counts, 4 * width, 2 * width)
    for name, wire in wires.items():
        assert getattr(found, name) == wire.traffic, name
    assert found.forward == wires["counts"].traffic + wires["dispatch"].traffic + wires["combine"].traffic


def test_all_gather_of_unequal_blocks():
    assert cost.all_gather([3, 0, 5]) == cost.Traffic((6, 0, 10), (5, 8, 3))


def test_sums_are_exact_where_a_float_is_not():
    huge = cost.all_to_all([[0, 2**40 + 1], [1, 0]], 2**30 + 1)
    assert huge.sent == ((2**40 + 1) * (2**30 + 1), 2**30 + 1)
    assert huge.total == sum(huge.received)


def test_refusals_name_function_value_and_limit():
    with pytest.raises(ValueError, match=r"all_to_all: counts has shape \(2, 3\), wanted \(R, R\)"):
        cost.all_to_all(np.zeros((2, 3), int), 4)
    with pytest.raises(TypeError, match=r"all_to_all: counts has dtype float64, wanted an integer dtype \(shape \(2, 2\)\)"):
        cost.all_to_all(np.zeros((2, 2)), 4)
    with pytest.raises(ValueError, match=r"all_to_all: counts holds -1, below 0 \(shape \(1, 1\)\)"):
        cost.all_to_all([[-1]], 4)
    with pytest.raises(ValueError, match=r"all_to_all: counts adds up to 1.84e\+19, above 4.61e\+18 \(shape \(2, 2\)\)"):
        cost.all_to_all(np.full((2, 2), 2**62), 4)
    with pytest.raises(ValueError, match=r"exchange: gradient_bytes=\(4,\) is not two sizes"):
        cost.exchange([[1, 2]], 4, gradient_bytes=(4,))
    with pytest.raises(ValueError, match="all_reduce: ranks=0 is below 1"):
        cost.all_reduce(4, 4, 0)
    with pytest.raises(TypeError, match="all_reduce: elements must be an integer, got 4.5"):
        cost.all_reduce(4.5, 4, 2)
    with pytest.raises(ValueError, match=r"rows_between: 2 ranks with 4 experts, but counts has shape \(2, 3\)"):
        cost.exchange(np.zeros((2, 3), int), 4, experts_per_rank=[2, 2])
    with pytest.raises(ValueError, match="Traffic: 2 ranks and 1 ranks cannot be added"):
        cost.all_gather([1, 1]) + cost.all_gather([1])
