"""Balance losses of transformers: pooled over layers (Mixtral, NLLB), per batch row (Switch), by assignments (Doge)."""

import numpy as np
import pytest

from moespec import gates, losses
from moespec.numerics import softmax

LAYERS, BATCH, LENGTH, E, K = 3, 2, 7, 8, 2
MODELS = "transformers.models"


@pytest.fixture
def logits():
    return np.random.default_rng(0).standard_normal((LAYERS, BATCH * LENGTH, E))


def padded():
    mask = np.ones((BATCH, LENGTH), bool)
    mask[1, 4:] = False
    return mask


def top(probs, k):
    return np.stack([gates.topk(p, k=k)[0] for p in probs])


def theirs(model, logits, **given):
    import importlib

    import torch
    of = importlib.import_module(f"{MODELS}.{model}.modeling_{model}").load_balancing_loss_func
    leaves = tuple(torch.tensor(a, requires_grad=True) for a in logits)
    loss = of(leaves, **{n: torch.tensor(v) if isinstance(v, np.ndarray) else v for n, v in given.items()})
    loss.backward()
    return float(loss.detach()), np.stack([a.grad.numpy() for a in leaves])


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("model", ["mixtral", "nllb_moe", "qwen3_moe"])
def test_pooled_over_layers(logits, model, masked):
    """Value and gradient; they count and average in float32."""
    mask = padded() if masked else None
    probs, saved = zip(*(gates.softmax(a) for a in logits), strict=True)
    rows = None if mask is None else np.tile(mask.ravel(), (LAYERS, 1))
    loss, inner = losses.pooled_balance(np.stack(probs), top(probs, K), rows)
    dprobs = losses.pooled_balance_backward(inner, 1.0)
    grads = np.stack([gates.softmax_backward(s, d) for s, d in zip(saved, dprobs, strict=True)])
    want, dwant = theirs(model, logits, num_experts=E, top_k=K, attention_mask=None if mask is None else mask.astype(np.int64))
    assert float(loss) == pytest.approx(want, rel=1e-6)
    np.testing.assert_allclose(grads, dwant, atol=1e-7)


def test_switch_per_batch_row(logits):
    """Layers lie one after the other along the sequence; a row of the batch is balanced by itself."""
    import torch
    from transformers.models.switch_transformers.modeling_switch_transformers import load_balancing_loss_func
    probs = softmax(logits, axis=2).reshape(LAYERS, BATCH, LENGTH, E)
    along = np.concatenate(list(probs), axis=1)                                # batch, layers * length, E
    chosen = along.argmax(2)
    want = float(load_balancing_loss_func(torch.tensor(along), torch.tensor(chosen)))
    loss, _ = losses.sequence_balance(along.reshape(-1, E), chosen.reshape(-1, 1), np.repeat(np.arange(BATCH), LAYERS * LENGTH), normalize=False)
    assert float(loss) == pytest.approx(want, rel=1e-6)


def test_doge_by_assignments():
    """Product keys: probabilities of all pairs of keys, counts divided by all assignments."""
    from transformers.models.doge.modeling_doge import load_balancing_loss_func  # noqa: F401  (skipped where there is none)
    keys = np.random.default_rng(1).standard_normal((LAYERS, 2, LENGTH, 4))
    want, _ = theirs("doge", keys, num_experts=16, num_keys=4, top_k=K)
    probs = softmax((keys[:, 0, :, :, None] + keys[:, 1, :, None, :]).reshape(LAYERS, LENGTH, 16), axis=2)
    loss, _ = losses.pooled_balance(probs, top(probs, K), normalizer="assignments")
    assert float(loss) == pytest.approx(want, rel=1e-9)
