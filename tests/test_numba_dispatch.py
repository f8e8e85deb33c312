"""What the cases of the suite are too small for: blocks of the counting sort, threads, and dtypes that differ within one call."""

import numpy as np
import pytest

from moespec.op import as_tuple
from moespec.registry import OPS

numba = pytest.importorskip("numba", reason="the extra `numba` is not installed")
from moespec_numba import BACKEND  # noqa: E402
from moespec_numba.dispatch import _counting_sort  # noqa: E402

RNG = np.random.default_rng(5)


@pytest.mark.parametrize("threads", [1, 2, 7, 64])
@pytest.mark.parametrize(("tokens", "choices", "buckets"), [(0, 2, 3), (1, 1, 1), (50, 3, 4), (129, 8, 64), (33, 0, 5), (20, 2, 300)])
def test_the_counting_sort_is_a_stable_sort(tokens, choices, buckets, threads, monkeypatch):
    monkeypatch.setattr(numba, "get_num_threads", lambda: threads)
    monkeypatch.setattr(_counting_sort, "_BLOCK", 1)
    keys = RNG.integers(-1, buckets, (tokens, choices))
    source, place, offsets = _counting_sort.counting_sort(keys, buckets)
    order = np.argsort(np.where(keys < 0, buckets, keys), axis=None, kind="stable")[:(keys >= 0).sum()]
    assert np.array_equal(source, np.append(order // max(choices, 1), np.full(keys.size - len(order), -1)))
    assert np.array_equal(place.ravel()[order], np.arange(len(order)))
    assert (place[keys < 0] == -1).all()
    assert np.array_equal(np.diff(offsets), np.bincount(keys[keys >= 0], minlength=buckets))


def test_blocks_of_their_real_size():
    keys = RNG.integers(-1, 64, (10000, 4))
    expected, _ = OPS["dispatch.plan"].forward(keys, experts=64)
    found, _ = BACKEND.ops()["dispatch.plan"].forward(keys, experts=64)
    assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))


def test_results_do_not_depend_on_the_number_of_threads():
    row = RNG.permutation(4000).reshape(1000, 4)
    rows, weights, dy = (RNG.normal(size=s).astype("float32") for s in ((4000, 33), (1000, 4), (1000, 33)))
    combine, before, results = BACKEND.ops()["dispatch.combine"], numba.get_num_threads(), []
    try:
        for threads in (1, before):
            numba.set_num_threads(threads)
            y, saved = combine.forward(rows, weights, row)
            results.append((y, *combine.backward(saved, dy)))
    finally:
        numba.set_num_threads(before)
    assert all(np.array_equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("name", ["dispatch.combine", "dispatch.decode", "dispatch.mix", "losses.cooperation", "losses.specialisation",
                                  "losses.mixture_nll", "losses.mixture_nll_classification", "losses.load_cv2",
                                  "losses.hierarchical_load_cv2", "losses.batchwise_threshold",
                                  "experts.singleton", "experts.copy", "experts.constant"])
def test_a_router_in_float64_beside_experts_in_float32(name):
    op, impl = OPS[name], BACKEND.ops()[name]
    case = next(c for c in op.cases(np.random.default_rng(0)) if not c.tags & {"nan", "inf", "empty"})
    first = next(a.name for a in op.inputs if a.kind == "real")
    inputs = [case.inputs.get(a.name) for a in op.inputs]
    inputs = [x.astype("float32" if a.name == first else "float64") if a.kind == "real" else x for a, x in zip(op.inputs, inputs, strict=True)]
    expected, found = _both_ways(op, op, inputs, case.attrs), _both_ways(op, impl, inputs, case.attrs)
    assert [a.dtype for a in found] == [a.dtype for a in expected]
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_allclose(b, a, rtol=2e-5, atol=2e-5)


def _both_ways(op, impl, inputs, attrs):
    outputs, saved = impl.forward(*inputs, **attrs)
    outputs = [np.asarray(a) for a in as_tuple(outputs)]
    grads = impl.backward(saved, *(np.ones_like(a) for arg, a in zip(op.outputs, outputs, strict=True) if arg.kind == "real"))
    return [*outputs, *as_tuple(grads)]
