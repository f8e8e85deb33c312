"""Virtual ranks and what travels between them: nothing is lost, nothing hangs, what does not fit is refused."""

import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moespec import parallel
from moespec.dispatch import plan
from moespec.layer import Experts, LayerSpec, Loss, Router
from moespec.parallel import Broken, Link, LocalComm, virtual
from moespec.parallel._route import Way, chunks_of


def plans(ranks, experts, rng, tokens=5):
    """A plan of every rank's tokens: any number of them, ids of -1 among them."""
    return [plan(rng.integers(-1, experts, (int(rng.integers(0, tokens)), 2)), experts=experts)[0] for _ in range(ranks)]


@given(st.integers(1, 8), st.integers(1, 9), st.integers(1, 4), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_dispatch_and_its_transpose_are_adjoint(ranks, experts, chunks, seed):
    """<A x, y> = <x, A' y>, exactly, on integers; what is sent arrives; rows come sorted by (expert, rank, arrival)."""
    rng = np.random.default_rng(seed)
    made = plans(ranks, experts, rng)
    xs = [rng.integers(-8, 9, (len(p.token), 3)).astype(float) for p in made]
    for p, x in zip(made, xs, strict=True):
        x[p.offsets[-1]:] = 0                               # dead rows stay at home

    def work(comm):
        p, x, arrived, answers = made[comm.rank], xs[comm.rank], [], []
        tags = np.repeat(np.arange(experts), np.diff(p.offsets)) * 10_000 + comm.rank * 100 + np.arange(p.offsets[-1])
        tagged = np.column_stack([x, np.append(tags, np.full(len(x) - len(tags), -1.0))])

        def compute(n, rows):
            arrived.append(rows)
            answers.append(np.random.default_rng([seed, comm.rank, n]).integers(-8, 9, (len(rows), 3)).astype(float))
            return answers[-1]

        back = Way(Link(comm), chunks_of(Link(comm), p.offsets, chunks), len(x)).through("there", "back", [tagged], compute)
        return arrived, answers, back

    found = virtual(ranks, work)
    arrived = [np.concatenate(a) for a, _, _ in found]
    tags = np.concatenate([a[:, 3] for a in arrived])
    assert np.all(np.diff(tags) > 0)                         # every row once, in the order of one process
    assert len(tags) == sum(int(p.offsets[-1]) for p in made)
    there = sum((a[:, :3] * np.concatenate(b)).sum() for a, (_, b, _) in zip(arrived, found, strict=True))
    assert there == sum((x * back).sum() for x, (_, _, back) in zip(xs, found, strict=True))


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_collectives(ranks):
    """All-gather in rank order; all-reduce of more, as many and fewer numbers than ranks."""
    def work(comm):
        link = Link(comm)
        assert link.all_gather("g", np.full(comm.rank, comm.rank), range(ranks)).tolist() == [r for r in range(ranks) for _ in range(r)]
        for n in (0, 1, ranks, 3 * ranks + 1):
            a = np.arange(n).reshape(1, n) * 2.0**comm.rank
            np.testing.assert_array_equal(link.all_reduce("r", a), np.arange(n).reshape(1, n) * (2.0**ranks - 1))

    virtual(ranks, work)


def test_all_reduce_of_a_narrow_dtype_is_rounded_once():
    """2048 + 1 + 1 in float16 is 2050 only if it is added in float32."""
    got = virtual(3, lambda comm: Link(comm).all_reduce("r", np.full(4, 2048 if comm.rank == 0 else 1, np.float16)))
    assert all(g.dtype == np.float16 and (g == 2050).all() for g in got)


def fails(error, match, work, ranks=3, **how):
    start = time.monotonic()
    with pytest.raises(error, match=match):
        virtual(ranks, work, **how)
    assert time.monotonic() - start < 5


def all_meet(comm):
    return Link(comm).all_gather("meet", np.zeros(1), [1] * comm.size)


def test_a_rank_that_raises_ends_all():
    def work(comm):
        if comm.rank == 1:
            raise KeyError("lost")
        all_meet(comm)

    fails(KeyError, "lost", work)


def test_a_rank_that_exits_ends_all():
    def work(comm):
        if comm.rank == 2:
            raise SystemExit(3)
        all_meet(comm)

    fails(SystemExit, "3", work)


def test_a_rank_that_returns_early_is_named():
    fails(Broken, r"for ranks \[1\], which have ended", lambda comm: comm.rank == 1 or all_meet(comm))


def test_a_rank_that_stalls_is_named():
    fails(TimeoutError, r"waited 0.2 s in exchange 0 for ranks \[0\]", lambda comm: time.sleep(1) if comm.rank == 0 else all_meet(comm), timeout=0.2)


def test_counts_that_do_not_fit_are_refused_on_every_rank():
    """Before rows travel; every rank says the same."""
    def work(comm):
        with pytest.raises(ValueError, match="rows: rank 1 sends 2 rows to rank 0, which expects 1"):
            Link(comm).exchange("rows", np.zeros((4, 2)), [2, 2], [1 if comm.rank == 0 else 2, 2] if comm.rank == 1 else [2, 1])
        return comm.traffic.sent["rows"]

    assert virtual(2, work) == [0, 0]


@pytest.mark.parametrize(("change", "message"), [
    ({"rows": lambda r: np.zeros((2, 3 + r))}, "ranks 0 and 1 exchange different rows .24 and 32 bytes each."),
    ({"rows": lambda r: np.zeros((2, 3), (np.float64, np.int64)[r])}, "ranks 0 and 1 exchange different rows"),
    ({"name": lambda r: ("there", "back")[r]}, "ranks 0 and 1 exchange different names"),
])
def test_ranks_that_exchange_different_things_are_refused(change, message):
    def work(comm):
        name = change.get("name", lambda r: "rows")(comm.rank)
        rows = change.get("rows", lambda r: np.zeros((2, 3)))(comm.rank)
        with pytest.raises(ValueError, match=message):
            Link(comm).exchange(name, rows, [1, 1], [1, 1])

    virtual(2, work)


def test_rows_that_are_not_there_are_refused():
    fails(ValueError, r"rows: rank 0 sends \[3\] of 2 rows", lambda comm: Link(comm).exchange("rows", np.zeros(2), [3], [3]), ranks=1)


def test_without_check_a_mismatch_is_still_an_error():
    def work(comm):
        Link(comm, check=False).exchange("rows", np.zeros(2), [1, 1], [1, 2 - comm.rank])

    fails((ValueError, Broken), "rank 1 sent 1 rows to rank 0, which expected 2|another rank failed", work, ranks=2)


SPEC = LayerSpec(Router(k=2), Experts(4, 5))


@pytest.mark.parametrize(("change", "message"), [
    ({"spec": LayerSpec(Router(k=1), Experts(4, 5))}, "ranks 0 and 1 differ in the layer"),
    ({"training": True}, "ranks 0 and 1 differ in training"),
    ({"chunks": 2}, "ranks 0 and 1 differ in training, keep, ordered, chunks"),
    ({"x": np.zeros((3, 7))}, "ranks 0 and 1 differ in the width of x"),
    ({"x": np.zeros((1, 3, 6))}, "ranks 0 and 1 differ in how many axes"),
    ({"x": np.zeros((3, 6), np.float32)}, "ranks 0 and 1 differ in the dtype"),
])
def test_ranks_that_disagree_about_the_layer_are_refused(change, message):
    params = SPEC.init(6, rng=0)

    def work(comm):
        call = {"spec": SPEC, "x": np.zeros((3, 6)), **(change if comm.rank == 1 else {})}
        with pytest.raises(ValueError, match=message):
            parallel.forward(call.pop("spec"), parallel.shard(SPEC, params, comm.rank, 2), call.pop("x"), comm=comm, **call)

    virtual(2, work)


@pytest.mark.parametrize(("give", "message"), [
    (lambda r: {"dy": None if r else np.ones((3, 6))}, "ranks 0 and 1 differ in the cotangents that they are given"),
    (lambda r: {"dy": np.ones((3, 6)), "dlosses": {"z_loss": 1.0 + r}}, "ranks 0 and 1 differ in dlosses"),
])
def test_cotangents_on_some_ranks_only_are_refused(give, message):
    spec = LayerSpec(Router(k=2), Experts(4, 5), losses=(Loss("losses.z_loss"),))
    params = spec.init(6, rng=0)

    def work(comm):
        _, saved = parallel.forward(spec, parallel.shard(spec, params, comm.rank, 2), np.ones((3, 6)), comm=comm)
        with pytest.raises(ValueError, match=message):
            parallel.backward(saved, **give(comm.rank))

    virtual(2, work)


def test_replicated_parameters_that_differ_are_refused():
    def work(comm):
        params = parallel.shard(SPEC, SPEC.init(6, rng=0), comm.rank, 3)
        params["router.w"] = params["router.w"] + (1e-9 if comm.rank == 2 else 0.0)
        with pytest.raises(ValueError, match="ranks 0 and 2 differ in the parameters that all have"):
            parallel.forward(SPEC, params, np.ones((3, 6)), comm=comm)

    virtual(3, work)


def test_wrong_parameters_and_settings():
    params = SPEC.init(6, rng=0)
    with pytest.raises(ValueError, match=r"forward: experts.w_gate has shape \(4, 6, 5\), wanted \(2, 6, 5\)"):
        virtual(2, lambda comm: parallel.forward(SPEC, params, np.zeros((3, 6)), comm=comm))
    with pytest.raises(ValueError, match="chunks=0 is below 1"):
        parallel.forward(SPEC, params, np.zeros((3, 6)), comm=LocalComm(), chunks=0)
    with pytest.raises(ValueError, match="at least two axes"):
        parallel.forward(SPEC, params, np.zeros(6), comm=LocalComm())
    with pytest.raises(ValueError, match=r"shard: rank=2 is outside 0 \.\. 1"):
        parallel.shard(SPEC, params, 2, 2)
    with pytest.raises(ValueError, match=r"shard: experts.w_gate has shape \(3, 6, 5\), wanted 4 experts"):
        parallel.shard(SPEC, {**params, "experts.w_gate": np.zeros((3, 6, 5))}, 0, 2)
    with pytest.raises(ValueError, match="virtual: ranks=0 is below 1"):
        virtual(0, all_meet)
    with pytest.raises(ValueError, match="virtual: timeout=nan must be above 0"):
        virtual(1, all_meet, timeout=float("nan"))
    with pytest.raises(ValueError, match=r"rank_program: rank=2 of 2 ranks with \(3, 3\) tokens"):
        parallel.rank_program(SPEC, (3, 3), 2)
    with pytest.raises(ValueError, match="rows=4 do not divide 6 tokens"):
        parallel.rank_program(SPEC, (3, 3), rows=4)
    with pytest.raises(ValueError, match=r"unshard: experts.w_\w+ of rank 0 has shape \(2, \d, \d\), wanted 4 experts first: one of 1 parts"):
        parallel.unshard(SPEC, [parallel.shard(SPEC, params, 0, 2)])
    with pytest.raises(ValueError, match=r"rows: rank 0 sends \[1, 1\] and expects \[1, 1\] rows, wanted 1 counts of each"):
        Link(LocalComm()).exchange("rows", np.zeros(2), [1, 1], [1, 1])
    with pytest.raises(ValueError, match=r"part_rows: x has shape \(1, 2\), the plans of all ranks have 2 rows"):
        parallel.OPS["part_rows"].forward(np.zeros((1, 2)), np.zeros((1, 2), int), np.array([0, 2]), link=Link(LocalComm()))


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_shards_put_together_are_the_parameters(ranks):
    params = SPEC.init(6, rng=0)
    back = parallel.unshard(SPEC, [parallel.shard(SPEC, params, r, ranks) for r in range(ranks)])
    assert all(np.array_equal(back[name], p) for name, p in params.items())
    assert set(parallel.sharded(SPEC)) == {"experts.w_gate", "experts.w_up", "experts.w_down"}


def test_a_thousand_exchanges_leave_nothing_behind():
    def work(comm):
        link, rows = Link(comm), np.zeros((6, 8))
        for _ in range(1000):
            link.exchange("rows", rows, [2, 4] if comm.rank == 0 else [4, 2], [2, 4] if comm.rank == 0 else [4, 2])
        return comm.hall

    tracemalloc.start()
    hall = virtual(2, work)[0]
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert not hall.posted
    assert not hall.taken
    assert size < 200_000
