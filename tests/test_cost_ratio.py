"""Compute to communication: the published figures, and bytes of drawn routings that cross real boundaries."""

import math
from itertools import product

import numpy as np
import pytest

from moespec import cost, layer, models

V3, WIDTH = models.FAMILIES["deepseek_v3"].spec(), models.FAMILIES["deepseek_v3"].d_model
MIXED = ("float8", "bfloat16")


def test_deepseek_v3_with_eight_bit_dispatch():
    """6 I / (1 + 2) = 4096 FLOP per byte before anything stays at home (I = 2048)."""
    found = cost.compute_to_communication(V3, WIDTH, wire=MIXED)
    assert found.forward == 4096
    assert found.backward == 8192
    assert found.both == 6144
    assert found.bytes_per_flop == pytest.approx(1 / 6144)
    assert cost.compute_to_communication(V3, WIDTH, 64, wire=MIXED).forward == pytest.approx(4096 / (1 - 1 / 64))


@pytest.mark.parametrize("width", [1024, 2048, 8192])
def test_the_width_of_an_expert_is_its_ratio(width):
    """Shazeer et al. 2017, section 3.2: hidden units per number in and out; one and a half times that with a gate."""
    assert cost.compute_to_communication(models.shazeer2017(64, width), 512).macs_per_element == width
    assert cost.compute_to_communication(models.mixtral(8, width), 512).macs_per_element == 1.5 * width


def test_the_ratio_does_not_depend_on_tokens_choices_experts_or_width():
    for n, k, d, t in product((4, 64), (1, 4), (8, 512), (1, 99)):
        assert cost.compute_to_communication(models.mixtral(n, 96, k), d, tokens=t).forward == 6 * 96 / 4


def test_one_rank_sends_nothing():
    found = cost.compute_to_communication(V3, WIDTH, 1)
    assert found.bytes == (0, 0)
    assert found.forward == math.inf
    assert found.bytes_per_flop == 0


def routings(rng, experts, k, tokens):
    return np.argsort(rng.random((tokens, experts)), axis=1)[:, :k]


@pytest.mark.parametrize(("experts", "k", "ranks"), [(16, 4, 4), (10, 3, 4), (8, 1, 8)])
def test_bytes_are_the_mean_of_what_drawn_routings_send(experts, k, ranks):
    """Rows per choice, and per distinct rank; tokens lie on ranks in turn."""
    spec, d, t = models.mixtral(experts, 32, k), 8, 4000
    ids = routings(np.random.default_rng(0), experts, k, t)
    owner = np.repeat(np.arange(ranks), cost.blocks(experts, ranks))
    home = np.arange(t) % ranks
    away = owner[ids] != home[:, None]
    distinct = np.array([len(set(owner[row]) - {h}) for row, h in zip(ids, home, strict=True)])
    for copies, sample in (("choice", away.sum(1)), ("rank", distinct)):
        found = cost.compute_to_communication(spec, d, ranks, copies=copies).bytes[0] / (2 * d * 2)
        assert abs(found - sample.mean()) <= 5 * sample.std() / math.sqrt(t)


def test_uniform_counts_sent_by_the_collectives_are_the_closed_formula():
    """Every expert gets the same number of rows from every rank: the exact bytes of the exchange are the expectation."""
    ranks, experts, k, t, d = 4, 16, 2, 64, 8
    counts = np.full((ranks, experts), t * k // experts)
    exchange = cost.exchange(counts, 1 * d, 2 * d)
    found = cost.compute_to_communication(models.mixtral(experts, 32, k), d, ranks, wire=MIXED)
    assert exchange.dispatch.sent[0] + exchange.combine.sent[0] == t * found.bytes[0]
    assert sum(exchange.backward.sent) == ranks * t * found.bytes[1]


def test_the_ratio_is_that_of_the_layer_as_it_runs():
    """`network`, whose bytes an instrumented run confirms, for uniform counts."""
    ranks, experts, t, d = 4, 16, 64, 8
    spec = models.mixtral(experts, 32, 2)
    moved = cost.network(spec, d, [t] * ranks, {"": np.full((ranks, experts), t * 2 // experts)}, dtype="float32")
    found = cost.compute_to_communication(spec, d, ranks, wire="float32")
    assert moved.forward["dispatch"].sent[0] + moved.forward["combine"].sent[0] == t * found.bytes[0]
    assert moved.backward["combine_gradient"].sent[0] + moved.backward["dispatch_gradient"].sent[0] == t * found.bytes[1]


def test_node_limited_routing_crosses_at_most_so_many_times():
    """V3 keeps 4 of 8 groups: 4 rows between nodes for 8 experts."""
    limited = cost.compute_to_communication(V3, WIDTH, 64, wire=MIXED, copies="node", nodes=8)
    assert limited.bytes[0] == pytest.approx(4 * WIDTH * 3 * (1 - 1 / 8))
    free = cost.compute_to_communication(models.mixtral(256, 2048, 8), WIDTH, 64, wire=MIXED, copies="node", nodes=8)
    assert free.bytes[0] == pytest.approx(8 * (1 - math.comb(224, 8) / math.comb(256, 8)) * WIDTH * 3 * (1 - 1 / 8))


def test_full_buffers_travel_whether_filled_or_not():
    spec, t, d, ranks = models.switch2021(8, 32, factor=1.5), 64, 16, 8
    found = cost.compute_to_communication(spec, d, ranks, copies="capacity", tokens=t)
    assert found.bytes[0] * t == pytest.approx(2 * 8 * 12 * d * 2 * (1 - 1 / 8))       # E C d b out, and back
    assert found.bytes[0] > cost.compute_to_communication(spec, d, ranks, tokens=t).bytes[0]


def test_gradients_have_wires_of_their_own():
    """By default a gradient travels as its row did: those of the combine in its dtype, those of the dispatch in its."""
    same = cost.compute_to_communication(V3, WIDTH, wire=MIXED)
    other = cost.compute_to_communication(V3, WIDTH, wire=MIXED, gradient_wire="bfloat16")
    assert same.bytes[0] == same.bytes[1] == other.bytes[0]
    assert other.bytes[1] == same.bytes[1] * 4 / 3


def test_a_narrower_space_travels_where_experts_work_in_one():
    wide, narrow = (layer.LayerSpec(layer.Router(), layer.Experts(4, 5, latent=latent)) for latent in (None, layer.Latent(4)))
    assert cost.compute_to_communication(narrow, 16).bytes[0] / cost.compute_to_communication(wide, 16).bytes[0] == 4 / 16


def test_all_operations_of_the_layer_are_more_than_the_experts():
    experts, whole = (cost.compute_to_communication(V3, WIDTH, 8, compute=c) for c in ("experts", "layer"))
    assert whole.bytes == experts.bytes
    assert 1.1 < whole.flops[0] / experts.flops[0] < 1.2                 # one shared expert beside eight, and the router


@pytest.mark.parametrize("name", [*models.FAMILIES, *models.PAPERS])
def test_every_published_layer_has_a_ratio(name):
    spec, d = (models.FAMILIES[name].spec(), models.FAMILIES[name].d_model) if name in models.FAMILIES else (models.PAPERS[name](), 1024)
    found = cost.compute_to_communication(spec, d, min(4, spec.experts.n))
    assert found.forward > 0
    assert found.backward == pytest.approx(2 * found.forward)


@pytest.mark.parametrize(("kwargs", "message"), [
    ({"ranks": 257}, r"compute_to_communication: ranks=257 is outside 1 \.\. 256, the experts"),
    ({"wire": "int3"}, "compute_to_communication: wire dtype 'int3' is not one of float64, "),
    ({"wire": ("float8", "float8", "float8")}, "is not one dtype, or two"),
    ({"copies": "all"}, "copies='all' is not one of choice, rank, node, capacity"),
    ({"copies": "node", "ranks": 8}, "copies='node' needs nodes in 1 .. ranks, got nodes=None and ranks=8"),
    ({"copies": "capacity"}, "copies='capacity' needs a layer with a capacity"),
    ({"compute": "some"}, "compute='some' is not one of experts, layer"),
    ({"wire": None}, "compute_to_communication: wire dtype None is not one of"),
    ({"d_model": 0}, "compute_to_communication: d_model=0 is below 1"),
])
def test_refusals(kwargs, message):
    with pytest.raises(ValueError, match=message):
        cost.compute_to_communication(V3, **{"d_model": WIDTH, **kwargs})


@pytest.mark.parametrize("copies", ["choice", "rank", "capacity"])
def test_a_capacity_of_zero_lets_nothing_travel(copies):
    assert cost.compute_to_communication(models.switch2021(8, 32, factor=0.0), 16, 4, copies=copies).bytes == (0, 0)


def test_copies_per_rank_need_a_fixed_number_of_choices():
    with pytest.raises(ValueError, match="copies='rank' needs a router that chooses k experts for every token"):
        cost.compute_to_communication(models.expert_choice2022(8, 32), 16, 4, copies="rank")


# ---- load ----------------------------------------------------------------------------------------------------------

def test_statistics_by_hand():
    found = cost.statistics([4, 0, 4, 8], capacity=5, block=4)
    assert (found.rows, found.experts, found.hit, found.max) == (16, 4, 3, 8)
    assert (found.max_over_mean, found.max_violation) == (2, 1)
    assert found.cv == pytest.approx(math.sqrt(8) / 4)                   # deviations 0, -4, 0, 4
    assert found.entropy == pytest.approx(1.5 * math.log(2))             # shares 1/4, 1/4, 1/2
    assert found.dropped == 3 / 16
    assert found.capacity_waste == pytest.approx(7 / 20)
    assert found.block_waste == 0
    assert cost.statistics([4, 0, 4, 8], block=5).block_waste == pytest.approx(20 / 16 - 1)


def test_statistics_of_ids_are_those_of_their_counts():
    ids = np.array([[0, 2], [-1, 2], [3, 2]])
    assert cost.statistics(ids, experts=5) == cost.statistics([1, 0, 3, 1, 0])


def test_even_and_collapsed_loads():
    even, one = cost.statistics([7] * 8), cost.statistics([56] + [0] * 7)
    assert (even.max_violation, even.cv, one.max_violation) == (0, 0, 7)
    assert even.entropy == pytest.approx(math.log(8))
    assert one.entropy == 0
    assert one.cv**2 == pytest.approx(7)                                 # n - 1: CV^2 of a single loaded expert


def test_statistics_of_nothing_are_zero():
    found = cost.statistics(np.zeros((0, 2), int), experts=3, capacity=4)
    assert found[:4] == (0, 3, 0, 0)
    assert found.capacity_waste == 1
    assert found.cv == found.entropy == found.dropped == found.block_waste == 0


@pytest.mark.parametrize(("args", "kwargs", "error", "message"), [
    (([[0, 1]],), {}, ValueError, r"statistics: ids need experts= \(routing has shape \(1, 2\)\)"),
    (([[0, 9]],), {"experts": 3}, ValueError, r"statistics: routing holds 9, outside -1 .. 2"),
    (([1, -1],), {}, ValueError, "statistics: routing holds -1, below 0"),
    (([1.5, 1],), {}, TypeError, "statistics: routing has dtype float64"),
    (([1, 1],), {"block": 0}, ValueError, "statistics: block=0 is below 1"),
    (([0, 0],), {"capacity": -1}, ValueError, "statistics: capacity=-1 is below 0"),
    ((np.array([2**63], np.uint64),), {}, ValueError, r"statistics: routing adds up to 9.22e\+18, above 4.61e\+18 \(shape \(1,\)\)"),
    (([1, 1],), {"experts": 3}, ValueError, r"statistics: routing has shape \(2,\), wanted rows of 3 experts"),
])
def test_statistics_refuses(args, kwargs, error, message):
    with pytest.raises(error, match=message):
        cost.statistics(*args, **kwargs)
