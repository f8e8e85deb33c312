"""Balance losses: what they share, how they differ, and where each normaliser stands."""

import numpy as np
import pytest

from moespec import gates, losses
from moespec.numerics import softmax


@pytest.fixture
def routed():
    """Probabilities [12, 8] and their top 3, two sequences, a mask."""
    rng = np.random.default_rng(1)
    probs = softmax(rng.standard_normal((12, 8)))
    return probs, gates.topk(probs, k=3)[0], np.repeat([0, 1], 6), rng.random(12) < 0.7


def value(name, *inputs, **attrs):
    return float(getattr(losses, name)(*inputs, **attrs)[0])


@pytest.mark.parametrize("masked", [False, True])
def test_all_reduce_to_the_balance_loss(routed, masked):
    p, ids, _, mask = routed
    m = mask if masked else None
    plain = value("load_balance", p, ids, m)
    assert value("sequence_balance", p, ids, None, m) == pytest.approx(plain, rel=1e-12)
    assert value("device_balance", p, ids, m, devices=8) == pytest.approx(plain, rel=1e-12)
    assert value("communication_balance", p, ids, m, devices=8, limit=3) == pytest.approx(plain, rel=1e-12)
    assert value("heterogeneous_balance", p, ids, m, ffn_experts=5, tau=1.0) == pytest.approx(plain * 3 / 8, rel=1e-12)
    assert value("load_balance", p, ids, m, normalizer="tokens") == pytest.approx(3 * plain, rel=1e-12)
    assert value("pooled_balance", p[None], ids[None], None if m is None else m[None]) == pytest.approx(3 * plain, rel=1e-12)
    counts = np.bincount(ids[mask].ravel() if masked else ids.ravel(), minlength=8)
    assert value("global_balance", p, counts, m) == pytest.approx(plain, rel=1e-12)
    assert value("device_balance", p, ids, m, devices=1) == pytest.approx(1.0, rel=1e-12)


def test_relu_routing_by_load_is_the_balance_loss_on_gates():
    """E / (k T^2) sum_i count_i sum_t g_ti."""
    g = np.maximum(np.random.default_rng(2).standard_normal((9, 4)), 0)
    ids = np.where(g > 0, np.arange(4), -1)
    assert value("gate_l1", ids, g, experts=4, k=2) == pytest.approx(4 / (2 * 81) * ((g > 0).sum(0) * g.sum(0)).sum())
    assert value("gate_l1", ids, g, experts=4) == pytest.approx(g.sum() / 9)


@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize(("name", "attrs", "balanced", "collapsed"), [
    ("load_balance", {}, 1, 4), ("load_balance", {"normalizer": "tokens"}, "k", 4), ("sequence_balance", {}, 1, 4),
    ("device_balance", {"devices": 2}, 1, 2), ("heterogeneous_balance", {"ffn_experts": 4, "tau": 0.0}, "k / E", 1),
])
def test_values_at_balance_and_collapse(name, attrs, balanced, collapsed, k):
    even = value(name, np.full((8, 4), 0.25), np.arange(8 * k).reshape(8, k) % 4, **attrs)
    assert even == {"k": k, "k / E": k / 4}.get(balanced, balanced)
    assert value(name, np.eye(4)[[1] * 8], np.full((8, 1), 1), **attrs) == collapsed


def test_layers_pooled_hide_what_each_layer_shows():
    """Two layers that send everything to one expert each: pooled they look balanced, one by one they are collapsed."""
    probs, ids = np.eye(2)[[[0] * 4, [1] * 4]], np.array([[[0]] * 4, [[1]] * 4])
    assert value("pooled_balance", probs, ids) == 1
    assert [value("load_balance", p, i) for p, i in zip(probs, ids, strict=True)] == [2, 2]
    rows = {"group": np.repeat([0, 1], 4)}
    assert value("sequence_balance", probs.reshape(8, 2), ids.reshape(8, 1), rows["group"]) == 2


def test_a_global_loss_is_the_mean_over_micro_batches(routed):
    """Accumulated counts bring their own normaliser; the gradients add up to those of the whole batch, too."""
    p, ids, _, _ = routed
    counts = np.bincount(ids.ravel(), minlength=8)
    whole, saved = losses.load_balance(p, ids)
    parts = [losses.global_balance(p[i:i + 4], counts) for i in (0, 4, 8)]
    assert np.mean([loss for loss, _ in parts]) == pytest.approx(float(whole), rel=1e-12)
    grads = np.concatenate([losses.global_balance_backward(s, 1 / 3) for _, s in parts])
    np.testing.assert_allclose(grads, losses.load_balance_backward(saved, 1.0), rtol=1e-12)
    local = np.mean([value("load_balance", p[i:i + 4], ids[i:i + 4]) for i in (0, 4, 8)])
    assert local > float(whole) + 0.01                                     # a micro-batch by itself is less balanced


def test_sequences_are_judged_one_by_one(routed):
    p, ids, group, _ = routed
    each = [value("load_balance", p[group == g], ids[group == g]) for g in (0, 1)]
    assert value("sequence_balance", p, ids, group) == pytest.approx(np.mean(each), rel=1e-12)


def test_selection_bias_does_not_enter_the_sequence_loss():
    """Counts of the scores' own top k: the bias that keeps experts even does not hide what the scores would do."""
    s = 1 / (1 + np.exp(-np.random.default_rng(3).standard_normal((64, 4)) - np.array([2.0, 0, 0, 0])))
    bias = np.array([-1.0, 0, 0, 0])
    unbiased, selected = gates.topk(s, k=1)[0], gates.topk(s + bias, k=1)[0]
    assert value("sequence_balance", s, unbiased) > value("sequence_balance", s, selected)


def test_a_token_is_sent_to_a_device_once():
    probs, both = np.full((2, 4), 0.25), np.array([[0, 1], [2, 3]])
    assert value("communication_balance", probs, both, devices=2, limit=1) == 1
    assert value("communication_balance", probs, np.array([[0, 2], [1, 3]]), devices=2, limit=1) == 2


def test_free_experts_at_half_price():
    """eta: 1 1 tau tau; f = 1/2 each with K = 2, P = 1/4."""
    probs, ids = np.full((8, 4), 0.25), np.arange(16).reshape(8, 2) % 4
    assert value("heterogeneous_balance", probs, ids, ffn_experts=2, tau=0.5) == 0.5 * 0.25 * (1 + 1 + 0.5 + 0.5)


def test_entropy_by_hand():
    assert value("router_entropy", np.log([[0.5, 0.25, 0.25]])) == pytest.approx(1.5 * np.log(2))
    assert value("router_entropy", np.array([[0.0, -np.inf]])) == 0
    assert value("router_entropy", np.array([[1e4, 0.0]])) == 0
