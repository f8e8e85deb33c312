"""Expert parallelism on virtual ranks: what comes out is what one process computes."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parallel_cases import LAYERS, PAPERS, cuts, on_rank, reference, together, whole
from test_families import NAMES, below, recorded

from moespec import models, parallel
from moespec.interop import hf
from moespec.layer import Experts, Given, LayerSpec, Shared

RANKS = (1, 2, 3, 4, 16)


def run(batch, ranks, sizes, **how):
    results = parallel.virtual(ranks, lambda comm: on_rank(comm, batch, sizes, **how), timeout=20)
    return together(batch[0], results)


def same_bits(got, want):
    assert set(got) == set(want)
    for name, array in want.items():
        assert got[name].dtype == array.dtype, name
        np.testing.assert_array_equal(got[name], array, err_msg=name)


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer(name):
    """Every field of the declaration and every paper: y, dx, all gradients, all losses; rows cut unevenly, some ranks without.

    Ordered bit for bit; otherwise sums over tokens are added by rank, and the results are the same up to rounding.
    """
    batch = whole(name, (4, 4))
    ranks = RANKS[sum(map(ord, name)) % 3 + 1]                # another number for every layer
    want = reference(*batch)
    same_bits(run(batch, ranks, cuts(4, ranks, np.random.default_rng(len(name))), ordered=True), want)
    got = run(batch, 3, (1, 0, 3))
    for key in (key for key, array in want.items() if array.dtype.kind == "f"):
        assert np.abs(got[key] - want[key]).max(initial=0) <= 1e-12 * (1 + np.abs(want[key]).max(initial=0)), key


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("name", ["switch2021", "shazeer2017", "expert_choice2022", "mod2024"])
def test_any_number_of_ranks_gives_the_same_bits(name, ranks):
    """Tokens of one batch row cut anywhere; with 16 ranks some have no experts and most have no tokens."""
    batch = whole(name, (12,))
    sizes = cuts(12, ranks, np.random.default_rng(ranks))
    same_bits(run(batch, ranks, sizes, ordered=True, chunks=1 + ranks % 3), reference(*batch))


def exact_layer():
    """Small integers everywhere: no sum is rounded, so that no order of adding shows."""
    spec = LayerSpec(Given("input_ids", k=2, vocab=7), Experts(5, 4, "ffn", "relu", bias=True), output_bias=True,
                     shared=(Shared(3, "ffn", "relu2"), Shared(2, "glu", "identity")))
    rng = np.random.default_rng(3)
    params = {n: rng.integers(0, 5, p.shape) if p.dtype.kind == "i" else rng.integers(-2, 3, p.shape).astype(float)
              for n, p in spec.init(6, rng=0).items()}
    x, dy = rng.integers(-2, 3, (14, 6)).astype(float), rng.integers(-2, 3, (14, 6)).astype(float)
    return spec, params, x, {"noise": {}, "context": {"input_ids": rng.integers(0, 7, 14)}, "training": False}, dy


@pytest.mark.parametrize("ranks", RANKS)
def test_all_reduced_sums_are_exact_on_integers(ranks):
    batch = exact_layer()
    got = run(batch, ranks, cuts(14, ranks, np.random.default_rng(ranks)))
    same_bits(got, reference(*batch))
    assert np.any(got["doutput.b"])


@pytest.mark.parametrize("experts", [[0] * 12, [3] * 12, [0, 3] * 6])
def test_all_tokens_on_few_experts(experts):
    batch = whole("by_row", (12,))
    batch[3]["context"]["dataset_index"] = np.array(experts)
    same_bits(run(batch, 3, (5, 0, 7), ordered=True), reference(*batch))


def test_no_tokens_at_all():
    batch = whole("switch2021", (0,))
    same_bits(run(batch, 3, (0, 0, 0), ordered=True), reference(*batch))


@given(st.sampled_from(["gshard2020", "mixtral", "deepseekmoe2024", "latent", "pools", "weigh_input"]), st.integers(1, 9), st.integers(0, 17),
       st.integers(1, 6), st.integers(0, 99))
@settings(max_examples=12, deadline=None)
def test_any_shape(name, ranks, tokens, chunks, seed):
    batch = whole(name, (tokens,), seed)
    same_bits(run(batch, ranks, cuts(tokens, ranks, np.random.default_rng(seed)), ordered=True, chunks=chunks), reference(*batch))


@pytest.mark.parametrize("chunks", [2, 3, 9])
@pytest.mark.parametrize("name", ["mixtral", "switch2021_dropout", "partial"])
def test_chunks_change_nothing(name, chunks):
    batch = whole(name, (4, 3))
    same_bits(run(batch, 3, (2, 0, 2), chunks=chunks), run(batch, 3, (2, 0, 2)))


@pytest.mark.parametrize("dtype", ["float32", "float16", ml_dtypes.bfloat16])
def test_low_precision_travels_as_it_is(dtype):
    spec, params, x, how, dy = whole("mixtral", (12,))
    batch = spec, {n: p.astype(dtype) for n, p in params.items()}, x.astype(dtype), how, dy.astype(dtype)
    same_bits(run(batch, 3, (5, 0, 7), ordered=True), reference(*batch))


@pytest.mark.parametrize("name", NAMES[::3])
def test_recorded_blocks_of_public_families(name):
    """What the library itself computed, by three ranks."""
    family, _, layer = name.partition(".")
    config, arrays = recorded(name)
    spec, params = hf.load(family, config, below(arrays, "p/"), layer=int(layer or 0))
    rows = arrays["x"].shape[0]
    batch = spec, params, arrays["x"], {"noise": {}, "context": below(arrays, "c/"), "training": False}, arrays["g"]
    got = run(batch, 3, (rows // 2, 0, rows - rows // 2))
    assert np.abs(got["y"] - arrays["y"]).max() <= 1e-11 * np.abs(arrays["y"]).max()


@pytest.mark.parametrize("ordered", [False, True])
def test_cotangents_of_any_value(ordered):
    """`dlogits` is this rank's part, wherever the logits were computed."""
    import moespec
    spec, params, x, how, dy = whole("deepseekmoe2024", (12,))
    dlogits = np.random.default_rng(5).standard_normal((12, 8))
    _, saved = moespec.forward(spec, params, x, keep=["logits"], **how)
    want = moespec.backward(saved, dy, dlosses={"load_balance": 3.0}, dlogits=dlogits)

    def work(comm):
        own = slice(0, 7) if comm.rank == 0 else slice(7, 12)
        own_params = parallel.shard(spec, params, comm.rank, 2)
        _, saved = parallel.forward(spec, own_params, x[own], comm=comm, ordered=ordered, keep=["logits"], training=True)
        return parallel.backward(saved, dy[own], dlosses={"load_balance": 3.0}, dlogits=dlogits[own])

    parts = parallel.virtual(2, work)
    np.testing.assert_allclose(np.concatenate([p.x for p in parts]), want.x, rtol=0, atol=1e-13)
    for name, d in parallel.unshard(spec, [p.params for p in parts]).items():
        np.testing.assert_allclose(d, want.params[name], rtol=0, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("name", ["mixtral", "switch2021", "shazeer2017_balanced", "base2021", "expert_choice2022", "remoe2024"])
def test_given_indices_are_replayed(name, ordered):
    """Also where the step that would choose looks at the whole batch."""
    spec, params, x, how, dy = whole(name, (12,))
    rng = np.random.default_rng(9)
    ids = np.argsort(rng.random((12, spec.experts.n)), axis=1)[:, :spec.columns]
    if name == "base2021":
        ids = np.repeat(np.arange(4), 3)[:, None]
    elif spec.columns == spec.experts.n:                      # column i holds i or -1; an expert has as many tokens as its capacity
        ids = np.where(np.argsort(rng.random(ids.shape), axis=0) < 3, np.arange(spec.experts.n), -1)
    batch = spec, params, x, {**how, "context": {"indices": ids}}, dy
    want, got = reference(*batch), run(batch, 3, (5, 0, 7), ordered=ordered)
    for key, array in want.items():
        np.testing.assert_allclose(got[key], array, rtol=0, atol=0 if ordered else 1e-12 * (1 + np.abs(array).max(initial=0)), err_msg=key)


def test_noise_is_that_of_the_whole_batch():
    import moespec
    spec, params, x, _, _ = whole("shazeer2017", (12,))
    want, _ = moespec.forward(spec, params, x, training=True, rng=7)

    def work(comm):
        own = slice(5 * comm.rank, 5 + 7 * comm.rank)
        return parallel.forward(spec, parallel.shard(spec, params, comm.rank, 2), x[own], comm=comm, training=True, rng=7, ordered=True)[0].y

    np.testing.assert_array_equal(np.concatenate(parallel.virtual(2, work)), want.y)


class Recorder:
    """A communicator that writes down what begins, and when it is waited for."""

    def __init__(self, comm):
        self.comm, self.rank, self.size, self.traffic, self.log = comm, comm.rank, comm.size, comm.traffic, []

    def start(self, rows, send, receive):
        number = sum(event.startswith("start") for event in self.log)
        self.log.append(f"start {number}")
        pending = self.comm.start(rows, send, receive)
        return parallel.Pending(lambda: (self.log.append(f"wait {number}"), pending.wait())[1])


def test_the_next_part_travels_while_one_is_computed():
    """Exchange 0 is the counts; parts leave in 1, 2, 4, come back in 3, 5, 6."""
    from moespec.experts import OPS as EXPERTS
    from moespec.program import Impl
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((3, 4, 5)), None]
    comm = Recorder(parallel.LocalComm())

    def compute(*inputs, **attrs):
        comm.log.append("compute")
        return EXPERTS["linear"].forward(*inputs, **attrs)

    unit = Impl(compute, EXPERTS["linear"].backward)
    out, _ = parallel.OPS["linear"].forward(rng.standard_normal((6, 4)), np.array([0, 2, 3, 6]), *weights, link=parallel.Link(comm, check=False),
                                            unit=unit, chunks=3)
    assert out.shape == (6, 5)
    assert comm.log == ["start 0", "wait 0", "start 1", "wait 1", "start 2", "compute", "start 3", "wait 2", "start 4", "compute", "start 5",
                        "wait 4", "compute", "start 6", "wait 3", "wait 5", "wait 6"]


@pytest.mark.parametrize("ordered", [False, True])
def test_another_backend(ordered):
    """Numba's kernels, one of them for the whole router; what is expected is what the same backend computes in one process."""
    pytest.importorskip("moespec_numba", reason="the extra `numba` is not installed")
    spec, params, x, how, dy = whole("mixtral", (12,))
    how = {**how, "backend": "moespec_numba:BACKEND"}

    def work(comm):
        own = slice(0, 7) if comm.rank == 0 else slice(7, 12)
        noise = {key: a[own] for key, a in how["noise"].items()}
        out, saved = parallel.forward(spec, parallel.shard(spec, params, comm.rank, 2), x[own], comm=comm, noise=noise, training=True,
                                      backend=how["backend"], ordered=ordered)
        return out, parallel.backward(saved, dy[own])

    want, got = reference(spec, params, x, how, dy), together(spec, parallel.virtual(2, work))
    for key, array in want.items():
        np.testing.assert_allclose(got[key], array, rtol=0, atol=1e-13 * (1 + np.abs(array).max(initial=0)), err_msg=key)


def test_the_page_shows_what_a_rank_runs():
    page = (Path(__file__).parent.parent / "docs" / "parallel.md").read_text()
    shown = [line.split() for line in page.partition("the others:\n\n```\n")[2].partition("```")[0].splitlines()]
    steps = parallel.rank_program(models.switch2021(8, 16), (6, 6))
    assert shown == [[s.op, *s.reads.split(), "->", *s.writes.split()] for s in steps]


def test_papers_are_all_there():
    assert set(models.PAPERS) <= set(PAPERS)
