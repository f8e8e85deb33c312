"""Routers in which a token chooses: published ones by hand, and what keeps their parts apart."""

import numpy as np
import pytest

from moespec import gates, program
from moespec.conformance.compare import inadmissible
from moespec.op import Step
from moespec.pairs import Pair


@pytest.fixture
def rng():
    return np.random.default_rng(0)


DEEPSEEK_V3 = (
    Step("gates.sigmoid", "logits", "scores"),
    Step("gates.select", "scores bias", "indices", {"k": 2, "groups": 4, "keep": 2}),
    Step("gates.gather", "scores indices", "chosen"),
    Step("gates.renormalize", "chosen indices", "weights", {"norm": "sum", "eps": 1e-20, "scale": 2.5}),
)


def test_a_bias_selects_and_does_not_weigh(rng):
    """B-29: whatever the bias, the weights are those of the raw scores of the experts that it made win."""
    logits = rng.standard_normal((30, 8))
    plain = program.run(DEEPSEEK_V3, {"logits": logits, "bias": np.zeros(8)}).values
    values = program.run(DEEPSEEK_V3, {"logits": logits, "bias": 3 * rng.standard_normal(8)}).values
    raw = np.take_along_axis(1 / (1 + np.exp(-logits)), values["indices"], 1)
    assert (plain["indices"] != values["indices"]).any()
    np.testing.assert_allclose(values["weights"], 2.5 * raw / raw.sum(1, keepdims=True), rtol=1e-14)


def test_the_router_learns_as_if_the_selection_were_given(rng):
    logits, dw = rng.standard_normal((6, 8)), rng.standard_normal((6, 2))
    trace = program.run(DEEPSEEK_V3, {"logits": logits, "bias": rng.standard_normal(8)})
    grads = program.run_backward(trace, {"weights": dw})
    assert "bias" not in grads
    s, ids = trace.values["scores"], trace.values["indices"]
    c = np.take_along_axis(s, ids, 1)
    total, g = c.sum(1, keepdims=True), c / c.sum(1, keepdims=True)
    want = np.zeros_like(logits)                                   # mask s (1 - s) / total (R - sum g R), times the scale
    np.put_along_axis(want, ids, 2.5 * c * (1 - c) / total * (dw - (g * dw).sum(1, keepdims=True)), 1)
    np.testing.assert_allclose(grads["logits"], want, atol=1e-15)


@pytest.mark.parametrize(("attrs", "want"), [
    ({"fill": -np.inf}, [0, 1]), ({"fill": 0.0}, [2, 3]), ({"fill": -np.inf, "reduce": "max"}, [0, 1]), ({"groups": 1}, [0, 1])])
def test_an_expert_of_a_masked_group_wins_over_negative_scores_only_with_fill_0(attrs, want):
    ids, _ = gates.select(np.array([[-0.25, -0.5, -4.0, -4.0]]), k=2, **{"groups": 2, "keep": 1, **attrs})
    assert ids.tolist() == [want]


def test_groups_by_the_two_largest_and_by_the_maximum():
    scores = np.array([[0.9, 0.0, 0.6, 0.5]])
    assert gates.select(scores, k=2, groups=2)[0].tolist() == [[2, 3]]
    assert gates.select(scores, k=2, groups=2, reduce="max")[0].tolist() == [[0, 1]]


def test_a_selection_that_no_rounding_explains_is_refused_beside_masked_scores():
    scores = Pair(np.array([[1.0, 1.0 + 1e-8, 0.5, -np.inf]]), np.array([[1e-7, 1e-7, 1e-7, 0.0]]), "float32")
    assert inadmissible([("select", scores, np.array([[0, 1]]), 2)]) == (None, 1)
    for wrong in ([0, 2], [1, 3], [2, 1]):
        assert inadmissible([("select", scores, np.array([wrong]), 2)])[0] is not None


def test_saturated_sigmoids_tie_and_logits_do_not():
    """B-11: the order of scoring and selecting matters where scores have run into 1."""
    logits = np.array([[20.0, 40.0, 30.0, 1.0]], "float32")
    assert gates.route(logits, k=2, score="sigmoid")[0].indices.tolist() == [[0, 1]]
    assert gates.route(logits, k=2, score="sigmoid", over="selected")[0].indices.tolist() == [[1, 2]]


def test_sqrt_softplus_by_hand():
    scores, saved = gates.sqrt_softplus(np.array([[0.0, -2000.0, 1e6]]))
    np.testing.assert_allclose(scores, [[np.sqrt(np.log(2)), 0.0, 1e3]], rtol=1e-15)
    np.testing.assert_allclose(gates.sqrt_softplus_backward(saved, np.ones((1, 3))), [[0.25 / np.sqrt(np.log(2)), 0.0, 5e-4]], rtol=1e-15)


def test_joint_weights_by_hand():
    (w, v), _ = gates.joint_weights(np.array([[0.5, 0.25]]), np.array([[0.25]]), np.array([[3, 1]]), scale=8.0)
    assert (w.tolist(), v.tolist()) == ([[4.0, 2.0]], [[2.0]])


def test_sparsemixer_by_hand():
    logits = np.log([[4.0, 3.0, 1.0, 2.0]])                          # eps so large that everybody takes part
    (ids, w), _ = gates.sparsemixer(logits, k=2, eps=5.0)
    assert ids.tolist() == [[0, 1]]
    np.testing.assert_allclose(w, [[4 / 10, 3 / 6]], rtol=1e-15)
    (_, w), saved = gates.sparsemixer(logits, np.array([[1, 0]]), heun=np.array([[0.5, 0.5]]), eps=5.0)
    np.testing.assert_allclose(w, [[0.3333 * 3 / 10, 4 / 7]], rtol=1e-15)         # the second is the best of those left
    d = gates.sparsemixer_backward(saved, np.array([[1.0, 0.0]]))
    np.testing.assert_allclose(d, [[-0.3 * 0.4, 0.3 * 0.7, -0.3 * 0.1, -0.3 * 0.2]], rtol=1e-14)


def test_sparsemixer_samples_its_probabilities(rng):
    logits = np.tile(np.log([[4.0, 3.0, 1.0, 2.0]]), (20000, 1))
    (ids, _), _ = gates.sparsemixer(logits, noise=rng.gumbel(size=(20000, 1, 4)), k=1, eps=5.0)
    np.testing.assert_allclose(np.bincount(ids[:, 0]) / 20000, [0.4, 0.3, 0.1, 0.2], atol=0.015)


def test_product_keys_are_the_best_of_all_pairs(rng):
    a, b = rng.standard_normal((2, 20, 7))
    (ids, scores), _ = gates.product_keys(a, b, k=5)
    every = (a[:, :, None] + b[:, None, :]).reshape(20, 49)
    assert np.array_equal(ids, np.argsort(-every, 1)[:, :5])
    assert np.array_equal(scores, np.take_along_axis(every, ids, 1))


def test_a_skipped_token_has_no_expert_and_keeps_its_demand():
    found, saved = gates.limit_ids(np.array([[4, 1], [0, 4]]), np.array([[0.7, 0.3], [0.6, 0.4]]), experts=4)
    assert found.kept.tolist() == [[-1, 1], [0, -1]]
    assert found.kept_weights.tolist() == [[0.0, 0.3], [0.6, 0.0]]
    assert gates.limit_ids_backward(saved, np.ones((2, 2))).tolist() == [[0.0, 1.0], [1.0, 0.0]]


def test_p_norm_by_hand():
    w, _ = gates.renormalize(np.array([[3.0, 4.0]]), np.array([[0, 1]]), norm="lp", p=2.0)
    np.testing.assert_allclose(w, [[0.6, 0.8]], rtol=1e-15)
    w, _ = gates.renormalize(np.array([[3.0, 1.0]]), np.array([[0, 1]]), norm="lp")
    np.testing.assert_allclose(w, [[0.75, 0.25]], rtol=1e-15)


def test_hash_layers_still_teach_the_router(rng):
    ids, _ = gates.lookup(np.array([2, 0, 2]), np.array([[0, 1], [2, 3], [3, 0]]))
    assert ids.tolist() == [[3, 0], [0, 1], [3, 0]]
    logits = rng.standard_normal((3, 4))
    (same, _), saved = gates.route(logits, ids, score="sqrt_softplus", norm="sum")
    assert np.array_equal(same, ids)
    assert gates.route_backward(saved, rng.standard_normal((3, 2))).any(1).all()
