"""Bytes from shapes and counts, against the bytes that a run counted: equal, per rank and exchange."""

from itertools import pairwise

import numpy as np
import pytest
from parallel_cases import LAYERS, cuts, on_rank, whole

import moespec
from moespec import cost, parallel


def counts_of(batch, sizes):
    """The rows of every rank for every expert, from the ids that the plans of one process read."""
    spec, params, x, how, _ = batch
    out, saved = moespec.forward(spec, params, x, keep="all", **how)
    per = int(np.prod(x.shape[1:-1]))
    ends, found = np.cumsum([0, *sizes]) * per, {}
    for step in saved.trace.steps:
        if step.op == "dispatch.plan" and step.reads != "shared_indices":
            ids, n = out.values[step.reads], step.attrs["experts"]
            parts = [ids[a:b] for a, b in pairwise(ends)]
            found["pool." if step.reads.startswith("pool.") else ""] = np.stack([np.bincount(p[p >= 0], minlength=n) for p in parts])
    return found


def formula(batch, sizes, dtype="float64", **how):
    spec, _, x, given, _ = batch
    per, rows = int(np.prod(x.shape[1:-1])), x.shape[0] if x.ndim > 2 else 1
    return cost.network(spec, x.shape[-1], [per * n for n in sizes], counts_of(batch, sizes), dtype=dtype, rows=rows, training=given["training"],
                        given_context=tuple(given["context"]), **how)


def by_rank(traffics, ranks):
    """[(sent, received)] of every rank by name, names that move nothing left out."""
    return [({n: t.sent[r] for n, t in traffics.items() if t.sent[r]}, {n: t.received[r] for n, t in traffics.items() if t.received[r]})
            for r in range(ranks)]


def counted(batch, sizes, **how):
    """What the communicators counted, forward and backward together."""
    def work(comm):
        on_rank(comm, batch, sizes, **how)
        return ({n: b for n, b in comm.traffic.sent.items() if b}, {n: b for n, b in comm.traffic.received.items() if b})

    return parallel.virtual(len(sizes), work)


def merged(found):
    total = dict(found.forward)
    for name, traffic in found.backward.items():
        total[name] = total[name] + traffic if name in total else traffic
    return total


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_moves_what_the_formula_says(name):
    batch, ranks = whole(name, (4, 4)), 2 + len(name) % 3
    sizes = cuts(4, ranks, np.random.default_rng(len(name)))
    how = ({}, {"ordered": True, "chunks": 2})[sum(map(ord, name)) % 2]
    assert counted(batch, sizes, **how) == by_rank(merged(formula(batch, sizes, **how)), ranks)


@pytest.mark.parametrize("ranks", [1, 2, 5, 16])
@pytest.mark.parametrize("name", ["switch2021", "mixtral", "switch2021_dropout", "soft_moe2023"])
def test_any_number_of_ranks(name, ranks):
    batch = whole(name, (12,))
    sizes = cuts(12, ranks, np.random.default_rng(ranks))
    assert counted(batch, sizes, check=False) == by_rank(merged(formula(batch, sizes, check=False)), ranks)


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0, 4.0])
def test_any_capacity(factor):
    from moespec.models import switch2021
    _, _, x, how, dy = whole("switch2021", (12,))
    spec = switch2021(8, 5, factor=factor)
    batch = spec, spec.init(x.shape[1], rng=1), x, how, dy
    assert counted(batch, (5, 0, 7)) == by_rank(merged(formula(batch, (5, 0, 7))), 3)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_narrow_dtypes(dtype):
    spec, params, x, how, dy = whole("gshard2020", (12,))
    batch = spec, {n: p.astype(dtype) for n, p in params.items()}, x.astype(dtype), how, dy.astype(dtype)
    assert counted(batch, (5, 0, 7)) == by_rank(merged(formula(batch, (5, 0, 7), dtype)), 3)


def test_by_hand():
    """Two ranks with 3 and 1 tokens of 4 float64 numbers, two experts: rank 0 sends 1 row to rank 1 and gets 1."""
    from moespec.layer import Experts, Given, LayerSpec
    spec = LayerSpec(Given("dataset_index"), Experts(2, 3))
    found = cost.network(spec, 4, (3, 1), {"": np.array([[2, 1], [1, 0]])}, dtype="float64", training=False, given_context=["dataset_index"],
                         check=False)
    assert {n: (t.sent, t.received) for n, t in found.forward.items()} == {
        "batch": ((72, 72), (72, 72)), "counts": ((8, 8), (8, 8)), "dispatch": ((32, 32), (32, 32)), "combine": ((32, 32), (32, 32))}
    assert {n: t.sent for n, t in found.backward.items()} == {"combine_gradient": (32, 32), "dispatch_gradient": (32, 32)}
    assert found.total.sent == (72 + 8 + 4 * 32,) * 2


def test_refusals():
    spec = LAYERS["mixtral"]
    fair = {"": np.ones((2, 8), int)}
    for shape in ((1, 8), (2, 7), (2, 9)):
        with pytest.raises(ValueError, match=rf"network: counts\[''\] has shape \({shape[0]}, {shape[1]}\), but there are 2 ranks and 8 experts"):
            cost.network(spec, 4, (1, 1), {"": np.zeros(shape, int)})
    with pytest.raises(ValueError, match=r"network: counts\['pool.'\] are of no experts; the layer has ''"):
        cost.network(spec, 4, (1, 1), {**fair, "pool.": fair[""]})
    with pytest.raises(ValueError, match="network: d_model=0 is below 1"):
        cost.network(spec, 0, (1, 1), fair)
    with pytest.raises(ValueError, match="network: chunks=0 is below 1"):
        cost.network(spec, 4, (1, 1), fair, chunks=0)
    with pytest.raises(ValueError, match="network: dtype='int32' is not one of float64"):
        cost.network(spec, 4, (1, 1), fair, dtype="int32")
    for rows in (0, 3):
        with pytest.raises(ValueError, match=f"rank_program: rows={rows} do not divide 2 tokens"):
            cost.network(spec, 4, (1, 1), fair, rows=rows)
    with pytest.raises(ValueError, match=r"network: counts\[''\] is missing"):
        cost.network(spec, 4, (1, 1), {})
    with pytest.raises(ValueError, match="network: tokens=-1 is below 0"):
        cost.network(spec, 4, (1, -1), {})
