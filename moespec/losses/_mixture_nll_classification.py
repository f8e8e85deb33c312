"""The likelihood of a class label under a mixture of classifiers: the classification form of eq. 1.3 of 1991."""

from typing import NamedTuple

import numpy as np

from moespec import corpus
from moespec.losses._checks import near, reals
from moespec.losses._cooperation import LOSS
from moespec.losses._mean import valid_mean, valid_share
from moespec.numerics import acc, logsumexp, softmax, widen
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    labels: np.ndarray      # T
    dtypes: tuple           # of logits and outputs
    prior: np.ndarray       # T E
    posterior: np.ndarray   # T E
    classes: np.ndarray     # T E C   each expert's class probabilities


def mixture_nll_classification(logits, outputs, labels):
    r"""Negative log-likelihood of the labels under a gate-weighted mixture of softmax classifiers.

    .. math:: L = -\frac{1}{|V|} \sum_{t \in V} \log \sum_i p_{ti} \, q_{ti, c_t}, \qquad p_t = \mathrm{softmax}(s_t), \quad
              q_{ti} = \mathrm{softmax}(o_{ti}), \quad V = \{t : c_t \ge 0\}

    Parameters
    ----------
    logits : (T, E) real
        Of the gate.
    outputs : (T, E, C) real
        Class logits of every expert.
    labels : (T,) integer
        Classes 0 .. C-1; -1: the token does not count.

    Returns
    -------
    loss : () real
        In the accumulation dtype, the mean over tokens that count; 0 where none does.
    Saved
        Labels, prior, posterior, class probabilities.

    Raises
    ------
    ValueError
        A label outside -1 .. C-1.

    References
    ----------
    Jacobs et al. 1991, eq. 1.3 with a multinomial in place of the Gaussian.
    """
    OP.admit(logits, outputs, labels)
    s, o = widen(logits), widen(outputs)
    own = np.broadcast_to(np.maximum(labels, 0)[:, None, None], (*o.shape[:2], 1))
    right = np.take_along_axis(o, own, 2)[:, :, 0] - logsumexp(o, axis=2)
    joint = s - logsumexp(s, axis=1)[:, None] + right
    loss = -valid_mean(logsumexp(joint, axis=1), labels >= 0)
    saved = Saved(labels, (logits.dtype, outputs.dtype), softmax(s, axis=1), softmax(joint, axis=1), softmax(o, axis=2))
    return loss.astype(acc(logits)), saved


def mixture_nll_classification_backward(saved, dloss):
    r"""Prior minus posterior to the gate; to each expert its own cross-entropy gradient, weighted by its responsibility.

    .. math:: \bar s_{ti} = \tfrac{1}{|V|} (p_{ti} - h_{ti}) \bar L, \qquad
              \bar o_{tic} = \tfrac{1}{|V|} h_{ti} (q_{tic} - [c = c_t]) \bar L
    """
    p, h, labels = saved.prior, saved.posterior, saved.labels
    d = dloss * valid_share(len(labels), labels >= 0, acc(p))[:, None]
    dlogits = np.where((labels >= 0)[:, None], d * (p * h.sum(1, keepdims=True) - h), 0.0)
    truth = (np.arange(saved.classes.shape[2]) == labels[:, None])[:, None, :].astype(acc(p))
    doutputs = np.where((labels >= 0)[:, None, None], (d * h)[:, :, None] * (saved.classes - truth), 0.0)
    return dlogits.astype(saved.dtypes[0]), doutputs.astype(saved.dtypes[1])


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for name, t, e, c in (("normal", 6, 3, 4), ("one_expert", 4, 1, 3), ("one_class", 3, 3, 1), ("one_token", 1, 2, 2),
                          ("no_tokens", 0, 2, 2)):
        inputs = {"logits": corpus.normal(rng, t, e), "outputs": corpus.normal(rng, t, e, c), "labels": rng.integers(0, c, t)}
        yield Case(name, inputs, {}, frozenset({"empty"} if not t else ()))
    inputs = {"logits": corpus.normal(rng, 4, 3), "outputs": corpus.normal(rng, 4, 3, 3), "labels": np.array([2, -1, 0, -1])}
    yield Case("some_do_not_count", inputs)
    yield Case("none_counts", {**inputs, "labels": np.full(4, -1)})
    yield Case("confidently_wrong", {**inputs, "outputs": np.tile([200.0, 0.0, 0.0], (4, 3, 1)), "labels": np.array([1, 2, 1, 0])}, {},
               frozenset({"steep"}))
    spoilt = inputs["outputs"].copy()
    spoilt[1] = np.nan
    yield Case("nan_where_it_does_not_count", {**inputs, "outputs": spoilt}, {}, frozenset({"nan"}))


INVALID = (
    (Case("label_too_large", {"logits": np.zeros((2, 3)), "outputs": np.zeros((2, 3, 4)), "labels": np.array([0, 4])}), ValueError,
     r"mixture_nll_classification: labels holds 4, outside -1 \.\. 3 \(labels has shape \(2,\)\)"),
    (Case("real_labels", {"logits": np.zeros((2, 3)), "outputs": np.zeros((2, 3, 4)), "labels": np.zeros(2)}), TypeError,
     r"mixture_nll_classification: labels has dtype float64"),
)


def _by_token(run):
    v, total, n, size = reals(run.inputs), 0.0, 0, 0.0
    for s, o, c in zip(v["logits"], v["outputs"], v["labels"], strict=True):
        if c >= 0:
            p, q = np.exp(s - s.max()), np.exp(o - o.max(1, keepdims=True))
            total -= np.log((p / p.sum() * (q / q.sum(1, keepdims=True))[:, c]).sum())
            n, size = n + 1, size + np.abs(s).max() + np.abs(o).max() + 1
    return near(run, run.outputs.loss, total / max(n, 1), size / max(n, 1))


REQUIREMENTS = (
    Req("MIXTURE_NLL_CLASSIFICATION-1", "The loss is the mean over counted tokens of -log of the mixture's probability of the label.",
        _by_token),
    Req("MIXTURE_NLL_CLASSIFICATION-2", "A token that does not count gets gradient 0.",
        lambda r: (r.inputs["labels"] >= 0)[:, None] | ((r.grads["logits"] == 0) & (r.grads["outputs"] == 0).all(2))),
)

OP = Op(
    name="losses.mixture_nll_classification",
    inputs=(Arg("logits", "T E"), Arg("outputs", "T E C"), Arg("labels", "T", "index", of="C")),
    outputs=(LOSS,),
    forward=mixture_nll_classification,
    backward=mixture_nll_classification_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    flops=lambda T, E, C, **_: (T * E * (4 * C + 12), T * E * (3 * C + 4)),
    refs=("Jacobs et al. 1991, eq. 1.3",),
)
