"""The simulator beside loops over tokens, closed formulas and limits; its two forms beside each other."""

from math import inf

import numpy as np
import pytest

from moespec import parallel
from moespec.cost import DEVICES
from moespec.cost.cluster import Cluster, Link, Placement, Trace, Uniform, Zipf, cluster_of, contiguous, eplb, reached, round_robin, simulate
from moespec.cost.cluster_expected import expected
from moespec.cost.cluster_traffic import counted
from moespec.layer import ExpertChoice, Experts, LayerSpec, Router, Soft
from moespec.models import FAMILIES, mixtral

FREE, NEAR, FAR = Link(0, inf), Link(1e-6, 1e9), Link(5e-6, 1e8)
SPEC = mixtral(16, 32, k=4)
D = 8


def cluster(ranks, per_node=4, *, intra=NEAR, inter=FAR, flops=1e12, memory=inf):
    return Cluster(ranks, per_node, intra, inter, flops, memory)


def by_hand(ids, placement, per_node, copies):
    """Sets of (token, sender, receiver), token by token; no expert has a replica."""
    ranks = placement.ranks
    home = {int(e): r for r, row in enumerate(placement.slots) for e in row if e >= 0}
    rows, moves = [0] * ranks, []
    for t, chosen in enumerate(ids.tolist()):
        source = t * ranks // len(ids)
        goals = [home[e] for e in chosen if e >= 0]
        for goal in goals:
            rows[goal] += 1
        if copies != "choice":
            goals = sorted(set(goals))
        if copies == "node":
            for node in {goal // per_node for goal in goals}:
                size = min(per_node, ranks - node * per_node)
                at = source if source // per_node == node else node * per_node + source % per_node % size
                moves.append((source, at))
                moves += [(at, goal) for goal in goals if goal // per_node == node]
        else:
            moves += [(source, goal) for goal in goals]
    return rows, [(a, b) for a, b in moves if a != b]


@pytest.mark.parametrize("copies", ["choice", "rank", "node"])
@pytest.mark.parametrize(("ranks", "per_node"), [(4, 2), (7, 3), (3, 8), (1, 1)])
def test_exact_form_beside_a_loop(copies, ranks, per_node):
    rng = np.random.default_rng(ranks)
    ids = np.where(rng.random((ranks * 9, 3)) < 0.1, -1, rng.permuted(np.tile(np.arange(12), (ranks * 9, 1)), axis=1)[:, :3])
    for placement in (contiguous(12, ranks), round_robin(12, ranks)):
        flow = counted(rng, ids, placement, per_node, copies)
        rows, moves = by_hand(ids, placement, per_node, copies)
        assert flow.rows.tolist() == rows
        for level, near in ((flow.intra, True), (flow.inter, False)):
            own = [(a, b) for a, b in moves if (a // per_node == b // per_node) == near]
            for r in range(ranks):
                assert level.rows_out[r] == sum(a == r for a, _ in own)
                assert level.rows_in[r] == sum(b == r for _, b in own)
                assert level.messages_out[r] == len({b for a, b in own if a == r})
                assert level.messages_in[r] == len({a for a, b in own if b == r})


def test_rows_are_those_that_the_runtime_sends():
    """Bytes counted by `moespec.parallel` on virtual ranks, for the routing that the layer chose."""
    spec, ranks = mixtral(8, 16), 4
    params, x = spec.init(D, rng=0), np.random.default_rng(0).standard_normal((ranks, 10, D))

    def on_rank(comm):
        out, saved = parallel.forward(spec, parallel.shard(spec, params, comm.rank, comm.size), x[comm.rank], comm=comm)
        parallel.backward(saved, np.ones_like(out.y))
        return out.routing.indices, comm.traffic
    found = parallel.virtual(ranks, on_rank, timeout=20)
    flow = counted(np.random.default_rng(0), np.concatenate([ids for ids, _ in found]), contiguous(8, ranks), ranks, "choice")
    for (_, traffic), out, back in zip(found, flow.intra.rows_out * D * 8, flow.intra.rows_in * D * 8, strict=True):
        assert traffic.sent["dispatch"] == traffic.sent["combine_gradient"] == traffic.received["combine"] == out
        assert traffic.received["dispatch"] == traffic.sent["combine"] == traffic.sent["dispatch_gradient"] == back


@pytest.mark.parametrize("load", [Uniform(), Zipf(0.8)])
@pytest.mark.parametrize("copies", ["choice", "rank", "node"])
@pytest.mark.parametrize("make", [round_robin, lambda experts, ranks: eplb(Zipf(0.8).inclusion(experts, 4), ranks, slots=5)])
def test_expected_form_is_the_mean_of_the_exact_one(load, copies, make):
    """Means over 60 draws, on 10 ranks in nodes of 4, 4 and 2 (two of 5 where nodes pass rows on): within 2 % and five standard errors."""
    placement, tokens, rng, per_node = make(32, 10), 64, np.random.default_rng(2), 5 if copies == "node" else 4
    flows = [counted(rng, load.draw(rng, 10 * tokens, 32, 4), placement, per_node, copies) for _ in range(60)]
    guess = expected(rng, load, placement, per_node, copies, tokens, 4, groups=60)
    for part in ("intra", "inter"):
        for name in ("rows_out", "rows_in", "messages_out", "messages_in"):
            exact = np.array([getattr(getattr(f, part), name) for f in flows])
            close = np.broadcast_to(getattr(getattr(guess, part), name), (60, 10))
            error = np.abs(exact.mean(0) - close.mean(0))
            noise = np.sqrt((exact.var(0) + close.var(0)) / 60)
            assert (error <= 0.02 * exact.mean(0) + 5 * noise).all(), f"{part} {name}: {error}, noise {noise}"
            assert noise.mean() < 0.02 * exact.mean()
    spread = np.std([f.rows for f in flows], 0).mean()
    assert 0.88 * spread < guess.rows.std(0).mean() < 1.12 * spread


@pytest.mark.parametrize("form", ["exact", "expected"])
@pytest.mark.parametrize("copies", ["choice", "rank", "node"])
@pytest.mark.parametrize("kw", [{}, {"node_limit": 2}, {"load": Zipf(1.0), "placement": "eplb", "spare": 1}, {"expert_parallel": 8},
                                {"expert_parallel": 2}, {"load": Zipf(0.5), "node_limit": 2, "placement": "eplb", "spare": 1}])
def test_what_is_sent_is_received(form, copies, kw):
    found = simulate(cluster(16), SPEC, D, 40, copies=copies, form=form, **kw)
    for level in ("intra", "inter"):
        assert found.network(level).sum() == pytest.approx(found.network(level, to="in").sum(), rel=1e-12)
    assert found.flow.rows.sum() == 16 * 40 * 4
    assert found.flow.rows.shape == found.busy.shape == (16,)
    if kw.get("expert_parallel") == 2:
        assert found.network("inter").sum() == 0


@pytest.mark.parametrize("form", ["exact", "expected"])
def test_closed_formula_of_a_balanced_load(form):
    """Every expert on its own rank, every token chooses all: k d b (1 - 1/R) bytes a token, both ways, on the wire."""
    spec, tokens = mixtral(8, 32, k=8), 50
    found = simulate(cluster(8, 8, intra=Link(3e-6, 1e9, overhead=1e-7)), spec, D, tokens, form=form, dtype="float32")
    wire = tokens * 8 * D * 4 * (1 - 1 / 8)
    for phase in found.phases:
        if phase.name in ("dispatch", "combine"):
            np.testing.assert_allclose(phase.seconds, 3e-6 + 7e-7 + wire / 1e9, rtol=1e-12)
    assert found.imbalance == 1
    np.testing.assert_allclose(found.network("intra"), 4 * wire)


def test_uniform_load_at_large_numbers_comes_near_the_closed_formula():
    found = simulate(cluster(64, 64), SPEC, D, 20_000, form="expected", placement=Placement(np.arange(64)[:, None] % 16, 16))
    wire = 20_000 * 4 * D * 2 * (1 - 1 / 64)
    assert found.network("intra").mean() / 4 == pytest.approx(wire, rel=1e-3)


def test_limits():
    free = simulate(cluster(8, intra=FREE, inter=FREE), SPEC, D, 64)
    assert free.exposed == pytest.approx(0, abs=1e-18)                     # no network: what is left is computation
    assert free.forward == pytest.approx(sum(p.slowest for p in free.phases if p.direction == "forward"))
    alone = simulate(cluster(1), SPEC, D, 64)
    assert alone.exposed == 0
    assert alone.imbalance == alone.utilisation == 1
    slow = simulate(cluster(8, flops=1e18), SPEC, D, 64)
    assert slow.exposed == pytest.approx(slow.time, rel=1e-3)


def test_experts_are_as_fast_as_their_operations():
    """6 D F a row and 12 backward, on one rank with all rows."""
    found = simulate(cluster(1, flops=1e6), SPEC, 64, 100)
    seconds = {p.direction: p.slowest for p in found.phases if p.name == "experts"}
    rows = 100 * 4
    assert seconds["forward"] == pytest.approx(rows * 6 * 64 * 32 / 1e6, rel=0.02)      # and the activation
    assert seconds["backward"] == pytest.approx(rows * 12 * 64 * 32 / 1e6, rel=0.02)


def test_experts_read_the_weights_of_those_that_are_hit():
    found = simulate(cluster(1, flops=inf, memory=1e6), SPEC, D, 1, load=Trace([[0, 1, 2, 3]]))
    seconds = next(p.slowest for p in found.phases if (p.name, p.direction) == ("experts", "forward"))
    assert seconds == pytest.approx(2 * (4 * 3 * D * 32 + 4 * (2 * D + 3 * 32)) / 1e6)


@pytest.mark.parametrize("form", ["exact", "expected"])
def test_skew_costs_and_replicas_help(form):
    times = [simulate(cluster(16), SPEC, D, 200, load=Zipf(s), form=form).time for s in (0, 0.2, 0.4, 0.6)]
    assert times == sorted(times)
    packed = simulate(cluster(16), SPEC, D, 200, load=Zipf(0.6), placement="eplb", form=form)
    spare = simulate(cluster(16), SPEC, D, 200, load=Zipf(0.6), placement="eplb", spare=1, form=form)
    assert spare.imbalance < 0.7 * packed.imbalance
    assert spare.busy.max() < packed.busy.max()
    assert spare.time < times[3]


def test_overlap_hides_the_shorter_of_both():
    plain, chunked = (simulate(cluster(8, flops=1e10), SPEC, D, 4096, overlap=n) for n in (1, 8))
    assert chunked.time < plain.time
    assert chunked.time >= plain.computing * (1 - 1e-12)
    assert plain.computing == pytest.approx(chunked.computing)


def test_fewer_copies_where_a_node_is_reached_once():
    many, few = (simulate(cluster(16), SPEC, D, 500, copies=c).network("inter").sum() for c in ("choice", "node"))
    assert few / many == pytest.approx(reached(16, 4, 4) / 4, rel=0.02)
    limited = simulate(cluster(16), SPEC, D, 500, copies="node", node_limit=1).network("inter").sum()
    assert limited / many == pytest.approx(1 / 4, rel=0.03)


def test_a_trace_gives_its_own_loads():
    ids = np.tile([[0, 1, 2, 3], [0, 5, 6, -1]], (50, 1))
    found = [simulate(cluster(16), SPEC, D, 400, load=Trace(ids), form=form) for form in ("exact", "expected")]
    for one in found:
        assert one.imbalance == pytest.approx(16 / 3.5, rel=0.05)          # expert 0 takes every token
        assert (one.flow.rows[7:] == 0).all()


def test_wire_dtypes():
    found = simulate(cluster(4), SPEC, D, 10, wire=("float8", "bfloat16"))
    assert found.row_bytes == (D, 2 * D)
    at = {(p.direction, p.name): p.seconds for p in found.phases}
    assert (at["forward", "dispatch"] == at["backward", "combine"]).all()               # rows, and gradients, to the experts
    assert (at["forward", "combine"] == at["backward", "dispatch"]).all()
    assert (at["forward", "dispatch"] < at["forward", "combine"]).all()
    assert simulate(cluster(4), SPEC, D, 10, dtype="float32").row_bytes == (4 * D, 4 * D)


def test_a_latent_layer_sends_narrow_rows():
    entry = next(e for e in FAMILIES.values() if e.spec().experts.latent)
    found = simulate(cluster(4), entry.spec(), entry.d_model, 8)
    assert found.row_bytes[0] == 2 * entry.spec().experts.latent.width < 2 * entry.d_model


def test_same_numbers_from_the_same_seed():
    one, two, other = (simulate(cluster(16), SPEC, D, 64, rng=seed).busy for seed in (1, 1, 2))
    assert (one == two).all()
    assert (one != other).any()


def test_all_families_whose_tokens_choose():
    refused = []
    for name, entry in FAMILIES.items():
        try:
            found = simulate(cluster(8), entry.spec(), entry.d_model, 16)
        except ValueError as error:
            refused.append((name, str(error)))
        else:
            assert 0 < found.utilisation <= 1
    assert all(message.startswith("simulate: ") for _, message in refused), refused
    assert len(refused) < 10


def test_clusters_of_known_devices():
    for name, one in DEVICES.items():
        made = cluster_of(name, 16, dtype=next(iter(one.flops)))
        assert made.intra.bandwidth == one.within
        assert made.per_node == (one.per_node if one.between else 16)
    assert cluster_of("h100", 16).inter.bandwidth == 50e9


@pytest.mark.parametrize(("call", "message"), [
    (lambda: cluster_of("h99", 8), "no device is called 'h99'"),
    (lambda: cluster_of("tpu-v3", 8, dtype="float64"), "tpu-v3 has no figure for float64"),
    (lambda: Link(-1, 1), "latency=-1"),
    (lambda: Link(0, 0), "bandwidth=0 is not above 0"),
    (lambda: Link(0, 1, knee=5), "knee=5 needs the bandwidth beyond"),
    (lambda: cluster(0), "ranks=0 is below 1"),
    (lambda: Cluster(1, 1, FREE, FREE, 1, 1, 1.5), "efficiency=1.5 exceeds 1"),
    (lambda: Cluster(8, 1.5, FREE, FREE, 1, 1), "Cluster: per_node must be an integer, got 1.5"),
    (lambda: Cluster(1, 1, FREE, FREE, 0, 1), "flops=0"),
    (lambda: simulate(cluster(6), SPEC, D, 1, expert_parallel=4), "expert_parallel=4 does not divide 6"),
    (lambda: simulate(cluster(12), SPEC, D, 1, expert_parallel=6), "do not fill nodes of 4"),
    (lambda: simulate(cluster(6), SPEC, D, 1, copies="node"), "full nodes, got 6 ranks in nodes of 4"),
    (lambda: simulate(cluster(4), SPEC, D, 0), "tokens_per_rank=0"),
    (lambda: simulate(cluster(4), SPEC, D, 1.5), "simulate: tokens_per_rank must be an integer, got 1.5"),
    (lambda: simulate(cluster(4), SPEC, D, 1, load="uniform"), "simulate: load='uniform' is no Uniform, Zipf or Trace"),
    (lambda: simulate(cluster(4), SPEC, D, 1, form="loose"), "form='loose' is none of auto, exact, expected"),
    (lambda: simulate(cluster(4), SPEC, D, 1).network("outer"), "level='outer'"),
    (lambda: simulate(cluster(4), SPEC, D, 1).network("intra", to="sideways"), "to='sideways'"),
    (lambda: simulate(cluster(4), SPEC, D, 1, overlap=0), "overlap=0"),
    (lambda: simulate(cluster(4), SPEC, D, 1, node_limit=0), "node_limit=0"),
    (lambda: simulate(cluster(4), SPEC, D, 1, copies="all"), "copies='all'"),
    (lambda: simulate(cluster(4), SPEC, D, 1, placement="best"), "placement='best'"),
    (lambda: simulate(cluster(4), SPEC, D, 1, placement=contiguous(16, 2)), "a placement of 16 experts on 2 ranks"),
    (lambda: simulate(cluster(4), SPEC, D, 1, expert_parallel=0), "expert_parallel=0 does not divide"),
    (lambda: simulate(cluster(10**5), SPEC, D, 4096, form="exact"), "form='exact' would draw"),
    (lambda: simulate(cluster(4), SPEC, D, 1, spare=1), "spare=1 places are for placement='eplb'"),
    (lambda: simulate(cluster(4), SPEC, D, 1, placement="eplb", spare=-4), "cannot hold 16 experts"),
    (lambda: simulate(cluster(4), SPEC, D, 1, wire="int4"), "simulate: wire dtype 'int4' is not one of"),
    (lambda: simulate(cluster(4), SPEC, D, 1, load=Trace([[0, 1]])), "do not fit k=4 of 16"),
    (lambda: simulate(cluster(8), SPEC, D, 1, node_limit=1, placement=Placement([range(16)] * 8, 16)), "replicas of an expert on one node"),
    (lambda: simulate(cluster(4), LayerSpec(ExpertChoice(), Experts(8, 16)), D, 1), "only layers with one pool"),
    (lambda: simulate(cluster(4), LayerSpec(Soft(slots=1), Experts(8, 16)), D, 1), "only layers with one pool"),
    (lambda: simulate(cluster(4), LayerSpec(Router(k=1), Experts(8, 16, zeros=1)), D, 1), "experts without a computation"),
])
def test_errors(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
