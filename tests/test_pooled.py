"""The balance loss over several layers."""

import numpy as np
import pytest
from layer_specs import D, prepared

import moespec
from moespec.layer import Experts, LayerSpec, Loss, Router, pooled

LOSS = Loss("losses.load_balance", 0.5, (("normalizer", "tokens"),), "logits")


def test_over_one_layer_it_is_the_layers_own_loss():
    spec = LayerSpec(Router(score="sigmoid", correction=True), Experts(4, 5), losses=(LOSS,))
    params, x, _, _ = prepared(spec)
    mask = np.arange(12) % 3 > 0
    out, saved = moespec.forward(spec, params, x, context={"mask": mask})
    found = pooled(LOSS, [out.values["logits"]], 2, mask=mask)
    assert found.loss == pytest.approx(out.losses["load_balance"], rel=1e-12)
    own, through = moespec.backward(saved), moespec.backward(saved, dlosses={}, dlogits=found.dlogits[0])
    np.testing.assert_allclose(through.params["router.w"], own.params["router.w"], rtol=1e-10)
    np.testing.assert_allclose(through.x, own.x, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("mask", [None, np.arange(7) % 2 == 0])
def test_value_by_loops_and_gradient_by_differences(mask):
    rng = np.random.default_rng(0)
    logits = [rng.standard_normal((7, D)) for _ in range(3)]
    found = pooled(LOSS, logits, 2, mask=mask)
    valid = [t for t in range(7) if mask is None or mask[t]]
    counts, probs = np.zeros(D), np.zeros(D)
    for layer in logits:
        for t in valid:
            e = np.exp(layer[t])
            counts[np.argsort(-layer[t])[:2]] += 1
            probs += e / e.sum()
    rows = 3 * len(valid)
    assert found.loss == pytest.approx(0.5 * D * (counts / rows * probs / rows).sum(), rel=1e-12)
    for n in range(3):
        v, h = rng.standard_normal((7, D)), 1e-6
        moved = [pooled(LOSS, [a + s * h * v if m == n else a for m, a in enumerate(logits)], 2, mask=mask).loss for s in (1, -1)]
        assert (found.dlogits[n] * v).sum() == pytest.approx((moved[0] - moved[1]) / (2 * h), rel=1e-6)


def test_imbalances_of_different_layers_cancel():
    """The flaw that models were trained with: two layers, each of which sends everything to one expert."""
    away = np.full((6, 2), [20.0, -20.0])
    assert pooled(LOSS, [away, -away], 1).loss == pytest.approx(0.5 * 1)
    assert pooled(LOSS, [away, away], 1).loss == pytest.approx(0.5 * 2)
