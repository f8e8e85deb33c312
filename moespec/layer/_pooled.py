"""The balance loss of several layers at once: it lives outside of them, and reaches each through its logits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from moespec.backend import get_backend, run, run_backward
from moespec.layer._capacity import Loss
from moespec.op import Step


class Pooled(NamedTuple):
    """A loss over layers, and what it tells each of them."""

    loss: float                     # already times its coefficient
    dlogits: list                   # per layer: give it to `backward(saved, ..., dlogits=)`, before the layer's own losses are set to 0


def pooled(loss: Loss, logits, k: int, *, mask=None) -> Pooled:
    """A load-balancing loss whose counts and means run over the tokens of all layers together.

    Parameters
    ----------
    loss : Loss
        Its coefficient and normaliser hold; the op itself is `losses.pooled_balance`.
    logits : sequence of (T, E) array
        Of every layer, in NumPy.
    k : int
        Experts per token: the k largest logits are counted.
    mask : (T,) bool, optional
        True = the token is valid, in every layer.
    """
    stacked = np.stack(logits)
    m, t, e = stacked.shape
    backend = get_backend("numpy")
    steps = (Step("gates.softmax", "logits", "probs"), Step("gates.topk", "logits", "ids", {"k": k}))
    trace = run(backend, steps, {"logits": stacked.reshape(m * t, e)})
    rows = trace.values["probs"].reshape(m, t, e), trace.values["ids"].reshape(m, t, k)
    valid = None if mask is None else np.tile(np.asarray(mask).reshape(1, t), (m, 1))
    normalizer = dict(loss.attrs).get("normalizer", "assignments")
    inner = run(backend, (Step("losses.pooled_balance", "probs ids mask", "loss", {"normalizer": normalizer}),),
                {"probs": rows[0], "ids": rows[1], "mask": valid})
    dprobs = run_backward(backend, inner, {"loss": np.asarray(loss.coef, stacked.dtype)})["probs"]
    back = run_backward(backend, trace, {"probs": dprobs.reshape(m * t, e)})["logits"].reshape(m, t, e)
    return Pooled(float(inner.values["loss"]) * loss.coef, list(back))
